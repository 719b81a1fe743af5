package cucm

import (
	"cmp"
	"context"
	"crypto/sha256"
	stdx509 "crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// Settings stand under modules.cucm in the config. They count for nodes that
// have none of their own; what is zero is the default of [Options].
type Settings struct {
	Timeout        time.Duration `yaml:"timeout"`         // of one request or handshake
	BannerTimeout  time.Duration `yaml:"banner_timeout"`  // until SSH's first prompt
	PromptSettle   time.Duration `yaml:"prompt_settle"`   // silence after a prompt that makes it one
	RestartTimeout time.Duration `yaml:"restart_timeout"` // of one service's restart
	Replication    time.Duration `yaml:"replication"`     // until what was uploaded must be listed, here or on the other nodes
	Settle         time.Duration `yaml:"settle"`          // after which a node that still serves the old certificate was surely not restarted
	Poll           time.Duration `yaml:"poll"`            // between two looks of such a wait
}

// Node is one node of a cluster, as a script describes it.
type Node struct {
	Host     string        `lua:"host" doc:"the node's host name: its own, not the cluster's"`
	Domain   string        `lua:"domain,optional" doc:"is added to a host without a dot"`
	Username any           `lua:"username" doc:"a string or a secret: the OS administrator (platform) account of this node, not an AXL user"`
	Password secret.Handle `lua:"password" doc:"its password"`
	Port     int           `lua:"port,optional" default:"443" doc:"of the REST API"`
	SSHPort  int           `lua:"ssh_port,optional" default:"22" doc:"of the command line"`

	Pins     []string `lua:"pins,optional" doc:"SHA-256 fingerprints, lower-case hex, of certificates that the node may show; those that \"moonseal trust\" stored are accepted too"`
	CA       string   `lua:"ca,optional" doc:"PEM roots that the node's certificate is verified against; the system's and the config's where empty"`
	HostKeys []string `lua:"ssh_host_keys,optional" doc:"SSH host key fingerprints (\"SHA256:…\"); those that \"moonseal trust\" stored are accepted too"`

	LegacySSH         bool `lua:"legacy_ssh,optional" doc:"allow SHA-1, CBC and ssh-rsa, which old releases need"`
	AllowPhoneLockout bool `lua:"allow_phone_lockout,optional" doc:"permit changes to CallManager, CAPF, TVS and ITLRecovery: done wrongly they lock the phones out"`

	Timeout        time.Duration `lua:"timeout,optional" doc:"of one request or handshake; 30s where not set"`
	BannerTimeout  time.Duration `lua:"banner_timeout,optional" doc:"until SSH's first prompt; 120s where not set"`
	RestartTimeout time.Duration `lua:"restart_timeout,optional" doc:"of one service's restart; 10m where not set"`
	Paths          Paths         `lua:"paths,optional" doc:"other paths of the REST API than the documented ones"`
}

// complete checks n and puts host and domain together.
func (n *Node) complete() error {
	if err := n.checkNames(); err != nil {
		return err
	}
	for key, port := range map[string]int{"port": n.Port, "ssh_port": n.SSHPort} {
		if port < 0 || port > 65535 {
			return problem.Invalid(key, fmt.Sprintf("must be a port, 1 to 65535, got %d", port))
		}
	}
	for i, pin := range n.Pins {
		// As other tools print them: upper case, with colons.
		n.Pins[i] = strings.ToLower(strings.ReplaceAll(pin, ":", ""))
		if len(n.Pins[i]) != 64 || strings.Trim(n.Pins[i], "0123456789abcdef") != "" {
			return problem.Invalid(fmt.Sprintf("pins[%d]", i+1), fmt.Sprintf("must be a SHA-256 fingerprint in hex, got %q", pin))
		}
	}
	for i, key := range n.HostKeys {
		sum, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(key, "SHA256:"))
		if err != nil || len(sum) != sha256.Size || !strings.HasPrefix(key, "SHA256:") {
			return problem.Invalid(fmt.Sprintf("ssh_host_keys[%d]", i+1), fmt.Sprintf(`must be a fingerprint as ssh-keygen -l prints it, "SHA256:…", got %q`, key))
		}
	}
	if certs, err := x509.ParseAll(n.CA); err != nil || n.CA != "" && len(certs) == 0 {
		return problem.Invalid("ca", "must be certificates in PEM")
	}
	return nil
}

func (n *Node) checkNames() error {
	switch name := n.Username.(type) {
	case secret.Handle:
	case string:
		if name == "" {
			return problem.Invalid("username", "is empty")
		}
	default:
		return problem.Invalid("username", "must be a string or a secret")
	}
	if net.ParseIP(n.Host) == nil && !hostName(n.Host) {
		e := problem.Invalid("host", fmt.Sprintf("must be a host name such as %q, got %q", "cucm01-pub.example.com", n.Host))
		if strings.ContainsAny(n.Host, ":/@") {
			e.Hint = "the name alone: without https://, user name and path; another port is port = …, or ssh_port = …"
		}
		return e
	}
	if domain := strings.TrimPrefix(n.Domain, "."); n.Domain != "" && !hostName(domain) {
		return problem.Invalid("domain", fmt.Sprintf("must be a domain name such as %q, got %q", "example.com", n.Domain))
	}
	if n.Domain != "" && !strings.Contains(n.Host, ".") {
		n.Host += "." + strings.TrimPrefix(n.Domain, ".")
	}
	n.Host, n.Domain = strings.ToLower(n.Host), ""
	if len(n.Host) > maxHostName {
		return problem.Invalid("host", fmt.Sprintf("must be a host name of at most %d characters", maxHostName))
	}
	return nil
}

// client makes a client for the node as a run reaches it.
func (b *binding) client(c *bind.Call, n *Node) (*Client, error) {
	c.LogHost(n.Host)
	username, err := userName(c, n.Username)
	if err != nil {
		return nil, err
	}
	stored, err := c.Account.Pins(n.Host)
	if err != nil {
		return nil, err
	}
	ask, s := c.Secret(n.Password), b.settings
	password := func(ctx context.Context) (string, error) {
		v, err := ask(ctx)
		if err == nil {
			c.Redactor.LearnPair(username, v) // as HTTP Basic sends it
		}
		return v, err
	}
	return b.linked(c, n, Options{
		Host: n.Host, Port: n.Port, SSHPort: n.SSHPort, Username: username, Password: password,
		Pins: union(n.Pins, stored.TLS), OnPins: func(list []string) error { return savePins(c.Account, n.Host, list) },
		Roots: roots(n.CA, c.Network.Roots), HostKeys: union(n.HostKeys, stored.SSH),
		Trust: c.Account.TrustCommand(n.Host, n.Port, n.SSHPort), Legacy: n.LegacySSH, AllowPhoneLockout: n.AllowPhoneLockout,
		Dial: c.Network.Dial, Timeout: cmp.Or(n.Timeout, s.Timeout), Banner: cmp.Or(n.BannerTimeout, s.BannerTimeout), PromptSettle: s.PromptSettle,
		RestartTimeout: cmp.Or(n.RestartTimeout, s.RestartTimeout), Replication: s.Replication, Settle: s.Settle, Poll: s.Poll,
		Paths: n.Paths, Clock: c.Clock, Log: c.Log,
	})
}

// linked returns a client that uses what the run has open to the node.
func (b *binding) linked(c *bind.Call, n *Node, o Options) (*Client, error) {
	key := linkKey{c.Run, n, c.Network, c.Account}
	b.mu.Lock()
	defer b.mu.Unlock()
	if open := b.open[key]; open != nil {
		return open.over(o)
	}
	made, err := New(o)
	if err != nil {
		return nil, err
	}
	if len(b.open) >= mostOpen {
		for _, old := range b.open {
			old.Close()
		}
		clear(b.open)
	}
	b.open[key] = made
	return made, nil
}

// userName looks a user's name up. It is not masked, which would blank out words: it
// stands in every log of the node.
func userName(c *bind.Call, name any) (string, error) {
	if h, ok := name.(secret.Handle); ok {
		return c.UserName(h)(c.Context)
	}
	text, _ := name.(string)
	return text, nil
}

// savePins keeps the accepted certificates beside the host keys that are stored.
func savePins(store *account.Store, host string, list []string) error {
	pins, err := store.Pins(host)
	if err != nil {
		return err
	}
	pins.TLS = list
	return store.SavePins(host, pins)
}

// union returns the elements of both, each once; later ones last.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// roots are those of the PEM text, or otherwise. A node whose certificate is pinned needs
// neither, and to parse the system's takes longer than to talk to it.
func roots(pem string, otherwise func() *stdx509.CertPool) func() *stdx509.CertPool {
	if pem == "" {
		return otherwise
	}
	return func() *stdx509.CertPool {
		pool := stdx509.NewCertPool()
		certs, _ := x509.ParseAll(pem) // complete has checked it
		for _, cert := range certs {
			pool.AddCert(cert)
		}
		return pool
	}
}
