// Package cucmtest is a Cisco Unified Communications Manager cluster for tests:
// for each node the certificate management REST API of release 14 (HTTPS, with
// the certificate that the node really serves) and the platform command line
// over SSH, each on a loopback port of its own.
//
// It keeps state as an appliance does: a key pair for each CSR that never
// leaves it, one pending CSR for each service, one trust certificate for each
// common name, and a certificate that is installed at once but served only
// after "Cisco Tomcat" was restarted.
//
// What Cisco leaves open, or what differs between releases, is in [Behavior],
// which may change at any time. Failures of calls come from a faults.Set; the
// calls are named in [Calls]. Texts that Cisco documents are given verbatim.
package cucmtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/faults"
)

// Role is what a node does in its cluster.
type Role string

// The roles.
const (
	Publisher  Role = "publisher"
	Subscriber Role = "subscriber"
	Presence   Role = "presence" // an IM and Presence node
)

// Options describe a cluster.
type Options struct {
	Domain string // the parent domain: nodes are Host.Domain, and multi-server CSRs name it
	Nodes  []NodeOptions

	Username, Password                 string // the OS administrator: privilege 1
	ReadOnlyUsername, ReadOnlyPassword string // an account of privilege 0; none if empty

	Trust     []string        // PEM certificates that every service of every node trusts from the start
	Behavior  Behavior        // of all nodes that have none of their own
	Faults    *faults.Set     // may be nil
	Clock     clockwork.Clock // the real one if nil; rules everything that waits or expires
	Log       *slog.Logger    // silent if nil
	SpareKeys int             // RSA 2048 keys that are generated ahead of the CSRs that will need them
}

// NodeOptions describe one node.
type NodeOptions struct {
	Host string // without the domain
	Role Role   // the first node is the publisher if empty, the others are subscribers

	Username, Password string // the node's own OS administrator, if it differs

	Identity *tls.Certificate // tomcat's first certificate; self-signed if nil
	Lifetime time.Duration    // what is left of the self-signed certificates; five years when 0
	Behavior *Behavior        // the cluster's if nil
}

// Shape is the form of a list that the API returns.
type Shape string

// The shapes; both are seen on real servers.
const (
	ShapeObject Shape = "object" // {"certificates":[{"certificate":PEM}]}
	ShapeArray  Shape = "array"  // [{"certificate":PEM}]
)

// EKUPolicy says what becomes of an identity certificate without clientAuth.
type EKUPolicy string

// The policies.
const (
	EKUAccept EKUPolicy = "accept"
	EKUReject EKUPolicy = "reject"
)

// Outage is how a node answers HTTPS while Tomcat restarts.
type Outage string

// The outages.
const (
	OutageRefused     Outage = "refused"     // connections are refused
	OutageHandshake   Outage = "handshake"   // the TLS handshake fails
	OutageUnavailable Outage = "unavailable" // 503 with an HTML page, still with the old certificate
)

// AfterRestart says which certificate a restart of Tomcat brings.
type AfterRestart string

// What a restart brings.
const (
	NewCertificate AfterRestart = "new"
	OldCertificate AfterRestart = "old"
)

// Behavior is how a node behaves. The zero value is a healthy node that needs
// no time for anything. Durations pass on the cluster's clock; in JSON they are
// nanoseconds.
type Behavior struct {
	TrustShape    Shape     `json:"trust_shape,omitempty"`    // object if empty
	EKU           EKUPolicy `json:"eku,omitempty"`            // accept if empty
	IdentityChain bool      `json:"identity_chain,omitempty"` // the chain inside an identity upload counts as trusted
	MultiServer   string    `json:"multi_server,omitempty"`   // the word for a cluster certificate; multi-server if empty
	ExtraNames    []string  `json:"extra_names,omitempty"`    // names of others that a node which was taken over puts into its CSRs
	LockAfter     int       `json:"lock_after,omitempty"`     // wrong passwords in a row that lock an account; never when 0

	ReplicationDelay   time.Duration `json:"replication_delay,omitempty"`    // until trust and multi-server certificates reach the other nodes
	NoTrustReplication bool          `json:"no_trust_replication,omitempty"` // trust that is uploaded here stays here
	Unreached          bool          `json:"unreached,omitempty"`            // a multi-server certificate uploaded elsewhere never gets here

	RestartOutage  time.Duration `json:"restart_outage,omitempty"`  // how long a restart of Cisco Tomcat takes
	Outage         Outage        `json:"outage,omitempty"`          // refused if empty
	AfterRestart   AfterRestart  `json:"after_restart,omitempty"`   // new if empty
	FailRestarts   int           `json:"fail_restarts,omitempty"`   // so many restarts end with the service stopped; counts down
	ServiceRestart time.Duration `json:"service_restart,omitempty"` // how long a restart of any other service takes
	TomcatLag      time.Duration `json:"tomcat_lag,omitempty"`      // by how much longer UDS and AXL Tomcat take

	MissingStarted bool          `json:"missing_started,omitempty"` // a restart goes back to the prompt at once and never prints [STARTED]
	RestartAsks    string        `json:"restart_asks,omitempty"`    // a question before a restart, such as "Continue (yes/no)?"; only yes restarts
	RestartBlames  bool          `json:"restart_blames,omitempty"`  // a restart ends with [STARTED] and "Executed command unsuccessfully"
	BannerDelay    time.Duration `json:"banner_delay,omitempty"`    // between login and the welcome
	PromptDelay    time.Duration `json:"prompt_delay,omitempty"`    // between the welcome and the first prompt
	ChunkSize      int           `json:"chunk_size,omitempty"`      // output comes in pieces of so many bytes; whole when 0
	ChunkDelay     time.Duration `json:"chunk_delay,omitempty"`     // between two such pieces
	PageLines      int           `json:"page_lines,omitempty"`      // lists stop for a key after so many lines; never when 0
	LegacySSHOnly  bool          `json:"legacy_ssh_only,omitempty"` // SHA-1 key exchange and MAC, CBC cipher, ssh-rsa host key
	NoPassword     bool          `json:"no_password,omitempty"`     // SSH offers keyboard-interactive only
	NoKeyboard     bool          `json:"no_keyboard,omitempty"`     // SSH offers password only
}

func (b Behavior) check() error {
	if b.NoPassword && b.NoKeyboard {
		return errors.New("SSH must offer password or keyboard-interactive")
	}
	for _, v := range []struct {
		name, got string
		want      []string
	}{
		{"trust_shape", string(b.TrustShape), []string{"", string(ShapeObject), string(ShapeArray)}},
		{"eku", string(b.EKU), []string{"", string(EKUAccept), string(EKUReject)}},
		{"outage", string(b.Outage), []string{"", string(OutageRefused), string(OutageHandshake), string(OutageUnavailable)}},
		{"after_restart", string(b.AfterRestart), []string{"", string(NewCertificate), string(OldCertificate)}},
	} {
		if !slices.Contains(v.want, v.got) {
			return fmt.Errorf("behavior: %s is %q, must be one of %q", v.name, v.got, v.want[1:])
		}
	}
	return nil
}

func (b Behavior) multiServer() string {
	if b.MultiServer == "" {
		return "multi-server"
	}
	return b.MultiServer
}

func (o Options) check() error {
	switch {
	case o.Domain == "" || !validName(o.Domain):
		return fmt.Errorf("domain %q is not a valid DNS name", o.Domain)
	case len(o.Nodes) == 0:
		return errors.New("a cluster needs a node")
	case o.Username == "" || o.Password == "":
		return errors.New("a cluster needs a user name and a password")
	}
	seen := map[string]bool{}
	for _, n := range o.Nodes {
		if !validName(n.Host) || strings.Contains(n.Host, ".") {
			return fmt.Errorf("host %q is not a valid host name without a domain", n.Host)
		}
		if seen[strings.ToLower(n.Host)] {
			return fmt.Errorf("host %q is there twice", n.Host)
		}
		seen[strings.ToLower(n.Host)] = true
		switch n.Role {
		case "", Publisher, Subscriber, Presence:
		default:
			return fmt.Errorf("host %q has the unknown role %q", n.Host, n.Role)
		}
		if n.Behavior != nil {
			if err := n.Behavior.check(); err != nil {
				return err
			}
		}
	}
	return o.Behavior.check()
}
