package cucmtest

import (
	"maps"
	"slices"
	"time"
)

// Ledger is what happened to a cluster, oldest first, and what it serves. All
// fingerprints are lower-case hex SHA-256 over the DER.
type Ledger struct {
	Uploads   []Upload          `json:"uploads"`
	Restarts  []Restart         `json:"restarts"`
	CSRs      []CSR             `json:"csrs"`
	Logins    []Login           `json:"logins"`    // the last maxLogins
	Installed map[string]string `json:"installed"` // node -> fingerprint of tomcat's certificate
	Served    map[string]string `json:"served"`    // node -> fingerprint of what HTTPS shows (or showed before it went down)
}

// The kinds of an Upload.
const (
	IdentityUpload = "identity"
	TrustUpload    = "trust"
)

// Upload is one uploaded certificate: an identity with its chain counts once,
// by the leaf; of a trust upload each certificate for each service counts.
type Upload struct {
	Node     string    `json:"node"`
	Kind     string    `json:"kind"`
	Service  string    `json:"service"`
	Accepted bool      `json:"accepted"`
	SHA256   string    `json:"sha256"` // "" if it could not be read
	Reason   string    `json:"reason"` // why it was not accepted
	At       time.Time `json:"at"`
}

// Restart is one restart of a service that has started.
type Restart struct {
	Node    string    `json:"node"`
	Service string    `json:"service"`
	At      time.Time `json:"at"`
}

// CSR is one generated certificate signing request.
type CSR struct {
	Node    string    `json:"node"`
	Service string    `json:"service"`
	SHA256  string    `json:"sha256"`
	At      time.Time `json:"at"`
}

// The ways of a Login.
const (
	ViaREST = "rest"
	ViaSSH  = "ssh"
)

// Login is one use of an account: each REST request and each password that was
// tried over SSH.
type Login struct {
	Node string    `json:"node"`
	Via  string    `json:"via"`
	User string    `json:"user"`
	OK   bool      `json:"ok"`
	At   time.Time `json:"at"`
}

// maxLogins bounds what a long-lived lab remembers of REST's many logins.
const maxLogins = 10_000

// Ledger returns a copy of what happened so far.
func (c *Cluster) Ledger() Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := Ledger{
		Uploads:   append([]Upload{}, c.ledger.Uploads...),
		Restarts:  append([]Restart{}, c.ledger.Restarts...),
		CSRs:      append([]CSR{}, c.ledger.CSRs...),
		Logins:    append([]Login{}, c.ledger.Logins...),
		Installed: map[string]string{},
		Served:    map[string]string{},
	}
	for _, n := range c.nodes {
		n.deliver()
		l.Installed[n.fqdn] = n.identities[tomcat].sha256()
		l.Served[n.fqdn] = n.loaded[ciscoTomcat].sha256()
	}
	return l
}

func (c *Cluster) noteUpload(u Upload) {
	u.At = c.clock.Now()
	c.ledger.Uploads = append(c.ledger.Uploads, u)
	c.log.Info("certificate uploaded", "node", u.Node, "kind", u.Kind, "service", u.Service, "accepted", u.Accepted, "sha256", u.SHA256, "reason", u.Reason)
}

func (c *Cluster) noteLogin(l Login) {
	l.At = c.clock.Now()
	if len(c.ledger.Logins) >= maxLogins {
		c.ledger.Logins = slices.Delete(c.ledger.Logins, 0, maxLogins/10)
	}
	c.ledger.Logins = append(c.ledger.Logins, l)
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
