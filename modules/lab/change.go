package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
)

// NodeState is how a node is now.
type NodeState struct {
	Node        string            `json:"node"`
	Role        cucmtest.Role     `json:"role"`
	Behavior    cucmtest.Behavior `json:"behavior"`
	Installed   string            `json:"installed"`    // tomcat's certificate: SHA-256 over the DER, lower-case hex
	Served      string            `json:"served"`       // what HTTPS shows, likewise
	HostKey     string            `json:"host_key"`     // of SSH, "SHA256:…"
	PendingCSRs map[string]string `json:"pending_csrs"` // service -> PEM
}

// NodeChange changes a node. What is not named stays; the parts are done in the
// order of the fields.
type NodeChange struct {
	Reset         bool            `json:"reset,omitempty"`           // a healthy node that needs no time for anything
	Behavior      json.RawMessage `json:"behavior,omitempty"`        // fields of a cucmtest.Behavior
	RemoveTrust   *TrustChange    `json:"remove_trust,omitempty"`    // from this node's trust
	AddTrust      *TrustChange    `json:"add_trust,omitempty"`       // to this node's trust, past the API
	GenerateCSR   string          `json:"generate_csr,omitempty"`    // a service for which another administrator makes a CSR
	DropCSR       string          `json:"drop_csr,omitempty"`        // a service whose pending CSR goes
	Restart       string          `json:"restart,omitempty"`         // a service that another administrator restarts
	ChangeHostKey bool            `json:"change_host_key,omitempty"` // as a reinstallation does
}

// TrustChange names a certificate in the trust store of a service.
type TrustChange struct {
	Service    string `json:"service"`
	CommonName string `json:"common_name,omitempty"` // to remove; all if empty
	PEM        string `json:"pem,omitempty"`         // to add
}

func (c *control) node(r *http.Request) (*cucmtest.Node, error) {
	n := c.world.Cluster.Node(r.PathValue("node"))
	if n == nil {
		return nil, notFound("no node %q", r.PathValue("node"))
	}
	return n, nil
}

func (c *control) getNode(r *http.Request) (any, error) {
	n, err := c.node(r)
	if err != nil {
		return nil, err
	}
	return stateOf(n)
}

func stateOf(n *cucmtest.Node) (*NodeState, error) {
	hostKey, err := n.HostKeyFingerprint()
	return &NodeState{
		Node: n.FQDN(), Role: n.Role(), Behavior: n.Behavior(),
		Installed: n.InstalledSHA256(), Served: n.ServedSHA256(), HostKey: hostKey, PendingCSRs: n.PendingCSRs(),
	}, err
}

func (c *control) changeNode(r *http.Request) (any, error) {
	n, err := c.node(r)
	if err != nil {
		return nil, err
	}
	var change NodeChange
	if err := decode(r.Body, &change); err != nil {
		return nil, err
	}
	if err := change.apply(n); err != nil {
		return nil, err
	}
	return stateOf(n)
}

func (ch NodeChange) apply(n *cucmtest.Node) error {
	if err := ch.configure(n); err != nil {
		return err
	}
	if t := ch.RemoveTrust; t != nil {
		if removed, err := n.RemoveTrust(t.Service, t.CommonName); err != nil || removed == 0 {
			return errors.Join(err, errors.New("no trust certificate was removed"))
		}
	}
	if t := ch.AddTrust; t != nil {
		if err := n.AddTrust(t.Service, t.PEM); err != nil {
			return err
		}
	}
	if ch.GenerateCSR != "" {
		if _, err := n.GenerateCSR(ch.GenerateCSR); err != nil {
			return err
		}
	}
	if ch.DropCSR != "" && !n.DropCSR(ch.DropCSR) {
		return errors.New("no CSR of " + ch.DropCSR + " is pending")
	}
	if ch.Restart != "" {
		if err := n.Restart(ch.Restart); err != nil {
			return err
		}
	}
	if ch.ChangeHostKey {
		return n.ChangeHostKey()
	}
	return nil
}

func (ch NodeChange) configure(n *cucmtest.Node) error {
	if !ch.Reset && len(ch.Behavior) == 0 {
		return nil
	}
	var malformed error
	err := n.Configure(func(b *cucmtest.Behavior) {
		next := *b
		if ch.Reset {
			next = cucmtest.Behavior{}
		}
		if len(ch.Behavior) > 0 {
			malformed = decode(bytes.NewReader(ch.Behavior), &next)
		}
		if malformed == nil {
			*b = next
		}
	})
	return errors.Join(malformed, err)
}

// DNSState is what the zone holds now.
type DNSState struct {
	Records []dnstest.Record `json:"records"`
}

// DNSChange changes the zone. Records are removed before others are added.
type DNSChange struct {
	PropagationDelay map[int]time.Duration `json:"propagation_delay,omitempty"` // by server, counted from 1
	Remove           []dnstest.Record      `json:"remove,omitempty"`            // by name and type; of one value if it is not empty
	Add              []dnstest.Record      `json:"add,omitempty"`
}

func (w *World) dnsState() DNSState { return DNSState{w.DNS.Records()} }

func (c *control) changeDNS(r *http.Request) (any, error) {
	var change DNSChange
	if err := decode(r.Body, &change); err != nil {
		return nil, err
	}
	w := c.world
	for server := range change.PropagationDelay {
		if server < 1 || server > len(w.opt.PropagationDelay) {
			return nil, notFound("no server %d", server)
		}
	}
	for server, delay := range change.PropagationDelay {
		w.DNS.SetPropagationDelay(server, delay)
	}
	for _, record := range change.Remove {
		if w.DNS.Remove(record.Name, record.Type, record.Value) == 0 {
			return nil, notFound("no record %s %s", record.Name, record.Type)
		}
	}
	for _, record := range change.Add {
		if _, err := w.DNS.Add(record); err != nil {
			return nil, err
		}
	}
	return w.dnsState(), nil
}

// ACMEChange fixes what the CA says of when to renew one of its certificates
// (ARI, RFC 9773).
type ACMEChange struct {
	Certificate string `json:"certificate"`  // PEM
	RenewalInfo string `json:"renewal_info"` // the answer's body; "" goes back to the CA's own
}

func (c *control) changeACME(r *http.Request) (any, error) {
	var change ACMEChange
	if err := decode(r.Body, &change); err != nil {
		return nil, err
	}
	return struct{}{}, c.world.CA.SetRenewalInfo(r.Context(), change.Certificate, change.RenewalInfo)
}
