package grant

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"moonseal/runtime/problem"
)

// Rules are the grants of the config, by the playbooks that they are for: a name,
// a pattern such as "lab/*" for a tenant's, or "*" for all. Without rules every playbook
// may reach all; with rules, what none of them grants is refused.
type Rules map[string]Grant

// Grant is what a playbook may reach. Lists of secrets, hosts and modules that are left
// out grant none.
type Grant struct {
	Secrets []string `json:"secrets,omitempty" yaml:"secrets"` // names, or patterns such as "CUCM_*"
	// Hosts are "host", "*.example.com" for all names below, "10.0.0.0/8", or "*",
	// each without or with a port: "host:22".
	Hosts   []string `json:"hosts,omitempty"   yaml:"hosts"`
	Modules []string `json:"modules,omitempty" yaml:"modules"` // names, or "*"
	// Names are the DNS names that certificates may be ordered for: a name,
	// "*.example.com" for all names below, or "*". If no rule that fits a playbook
	// lists any, all are granted.
	Names []string `json:"names,omitempty" yaml:"names"`
}

// Allowed is what one playbook may reach. Nil is all.
type Allowed struct {
	Playbook string `json:"playbook"`
	Grant
}

// Check refuses rules that could match nothing.
func (r Rules) Check() error {
	for _, playbook := range slices.Sorted(maps.Keys(r)) {
		g := r[playbook]
		for _, pattern := range slices.Concat([]string{playbook}, g.Secrets, g.Modules) {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return fmt.Errorf("grants.%s: %q is not a valid name or pattern", playbook, pattern)
			}
		}
		for _, host := range g.Hosts {
			if _, _, err := parseHost(host); err != nil {
				return fmt.Errorf("grants.%s: %w", playbook, err)
			}
		}
		for _, name := range g.Names {
			if !isNamePattern(name) {
				return fmt.Errorf(`grants.%s: %q must be a DNS name, "*.example.com" or "*"`, playbook, name)
			}
		}
	}
	return nil
}

// For returns what the playbook may reach: what all rules that fit it grant.
func (r Rules) For(playbook string) *Allowed {
	if len(r) == 0 {
		return nil
	}
	a := &Allowed{Playbook: playbook}
	for pattern, g := range r {
		if fits(pattern, playbook) {
			a.Secrets = append(a.Secrets, g.Secrets...)
			a.Hosts = append(a.Hosts, g.Hosts...)
			a.Modules = append(a.Modules, g.Modules...)
			a.Names = append(a.Names, g.Names...)
		}
	}
	return a
}

// Secret refuses a secret that is not granted.
func (a *Allowed) Secret(name string) error {
	if a == nil || fitsAny(a.Secrets, name) {
		return nil
	}
	return a.refused("secret", name, "secrets")
}

// Module refuses a module that is not granted.
func (a *Allowed) Module(name string) error {
	if a == nil || fitsAny(a.Modules, name) {
		return nil
	}
	return a.refused("module", name, "modules")
}

// Host refuses a host that is not granted; addr is "host:port".
func (a *Allowed) Host(addr string) error {
	if a == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if slices.ContainsFunc(a.Hosts, func(granted string) bool { return fitsHost(granted, host, port) }) {
		return nil
	}
	return a.refused("host", host, "hosts")
}

// BoundsNames reports whether the DNS names of certificates are bounded.
func (a *Allowed) BoundsNames() bool { return a != nil && len(a.Names) > 0 }

// Name refuses a DNS name that no certificate may be ordered for. A wildcard is
// granted by a pattern that has all of the names below it.
func (a *Allowed) Name(name string) error {
	if !a.BoundsNames() || slices.ContainsFunc(a.Names, func(granted string) bool { return fitsName(granted, name) }) {
		return nil
	}
	return a.refused("name", name, "names")
}

func (a *Allowed) refused(what, name, key string) error {
	return &problem.Error{
		Kind: problem.Refused, Work: problem.NotDone, Target: what + " " + name,
		Message: fmt.Sprintf("the config does not grant it to the playbook %s", a.Playbook),
		Hint:    fmt.Sprintf("to grant it, add to the config: grants: { %q: { %s: [%q] } }", a.Playbook, key, name),
	}
}

func fitsAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(p, name) })
}

func fits(pattern, name string) bool {
	if pattern == "*" {
		return true // also of tenants
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// parseHost splits a granted host from its port, "" if it has none.
func parseHost(granted string) (host, port string, err error) {
	host = granted
	if h, p, err := net.SplitHostPort(granted); err == nil {
		if _, err := strconv.ParseUint(p, 10, 16); err == nil {
			host, port = h, p
		}
	}
	rest := strings.TrimPrefix(host, "*.")
	_, prefixErr := netip.ParsePrefix(host)
	_, addrErr := netip.ParseAddr(host)
	if host == "*" || prefixErr == nil || addrErr == nil || (rest != "" && !strings.ContainsAny(rest, "*/:@ ")) {
		return host, port, nil
	}
	return "", "", fmt.Errorf(`%q is not a valid host: it must be a name, "*.example.com", an address, "10.0.0.0/8" or "*", each with a port or without`, granted)
}

func fitsHost(granted, host, port string) bool {
	allowed, at, err := parseHost(granted)
	if err != nil || (at != "" && at != port) {
		return false
	}
	if fitsName(allowed, host) {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	if prefix, err := netip.ParsePrefix(allowed); err == nil {
		return prefix.Contains(addr)
	}
	same, err := netip.ParseAddr(allowed)
	return err == nil && same.Unmap() == addr
}

// fitsName reports whether a name is granted by a name, "*.example.com" or "*".
func fitsName(granted, name string) bool {
	granted, name = cleanName(granted), cleanName(name)
	if below, ok := strings.CutPrefix(granted, "*"); ok {
		return strings.HasSuffix(name, below)
	}
	return granted == name
}

func cleanName(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

func isNamePattern(s string) bool {
	rest := strings.TrimPrefix(s, "*.")
	return s == "*" || rest != "" && !strings.ContainsAny(rest, "*/:@ ")
}
