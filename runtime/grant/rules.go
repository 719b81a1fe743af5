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
// a pattern such as "lab/*" for a tenant's, or "*" for all. Where there is none
// every playbook may reach all. Once there is one, what no rule grants is refused.
type Rules map[string]Grant

// Grant is what a playbook may reach; what is left out is nothing.
type Grant struct {
	Secrets []string `json:"secrets,omitempty" yaml:"secrets"` // names, or patterns such as "CUCM_*"
	// Hosts are "host", "*.example.com" for all names below, "10.0.0.0/8", or "*",
	// each as it stands or with a port: "host:22".
	Hosts   []string `json:"hosts,omitempty"   yaml:"hosts"`
	Modules []string `json:"modules,omitempty" yaml:"modules"` // names, or "*"
}

// Allowed is what one playbook may reach. Nil is all.
type Allowed struct {
	Playbook string `json:"playbook"`
	Grant
}

// Check refuses rules that could fit nothing.
func (r Rules) Check() error {
	for _, playbook := range slices.Sorted(maps.Keys(r)) {
		g := r[playbook]
		for _, pattern := range slices.Concat([]string{playbook}, g.Secrets, g.Modules) {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return fmt.Errorf("grants.%s: %q is no name and no pattern", playbook, pattern)
			}
		}
		for _, host := range g.Hosts {
			if _, _, err := parseHost(host); err != nil {
				return fmt.Errorf("grants.%s: %w", playbook, err)
			}
		}
	}
	return nil
}

// For gives what the playbook may reach: what all rules that fit it grant.
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

func (a *Allowed) refused(what, name, key string) error {
	return &problem.Error{
		Kind: problem.Refused, Work: problem.NotDone, Target: what + " " + name,
		Message: fmt.Sprintf("the config does not grant it to the playbook %s", a.Playbook),
		Hint:    fmt.Sprintf("if it shall have it, add to the config: grants: { %q: { %s: [%q] } }", a.Playbook, key, name),
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

// parseHost parts a granted host from its port, "" where it names none.
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
	return "", "", fmt.Errorf(`%q is no host: it is a name, "*.example.com", an address, "10.0.0.0/8" or "*", each with a port or without`, granted)
}

func fitsHost(granted, host, port string) bool {
	want, at, err := parseHost(granted)
	if err != nil || (at != "" && at != port) {
		return false
	}
	host, want = strings.TrimSuffix(strings.ToLower(host), "."), strings.TrimSuffix(strings.ToLower(want), ".")
	if want == "*" || want == host {
		return true
	}
	if below, ok := strings.CutPrefix(want, "*"); ok {
		return strings.HasSuffix(host, below)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	if prefix, err := netip.ParsePrefix(want); err == nil {
		return prefix.Contains(addr)
	}
	same, err := netip.ParseAddr(want)
	return err == nil && same.Unmap() == addr
}
