package cucm

import (
	"fmt"

	"moonseal/modules/x509"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// Module is what require "cucm" returns.
func Module() *bind.Module {
	b := &binding{settings: &Settings{}}
	node := bind.Handle[Node]("cucm.Node", 1, "A node of a cluster, and how to reach it.",
		b.identity(), b.trust(), b.snapshot(), b.pendingCSR(), b.csr(), b.issued(), b.upload(), b.has(),
		b.restart(), b.services(), b.login(), b.served(), b.serves())
	node.InTurn = true
	return &bind.Module{
		Name: "cucm",
		Doc: "Replaces the certificates of Cisco Unified Communications Manager and its siblings (IM and Presence, Unity Connection, Emergency Responder), " +
			"release 14 and later: REST for certificates, SSH for restarts. The private keys never leave the node.",
		Settings: b.settings,
		Functions: []*bind.Func{{
			Name: "node", Table: true,
			Doc: "Describes one node: each has certificates of its own, and is reached by its own name. No request is sent yet. " +
				"Its certificate must be pinned or verify; `moonseal trust HOST` stores what it shows.",
			Returns: "the node",
			Example: `local node = cucm.node { host = "cucm01-pub", domain = "automate.builders",
  username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" }`,
			Impl: bind.Pure(func(n *Node) (*Node, error) { return n, n.complete() }),
		}},
		Types: []*bind.Type{
			bind.Examined(node, (*Node).account, b.examine),
		},
		Plain: append([]*bind.Type{
			bind.Table[Uploaded]("cucm.Uploaded", "What an upload did."),
			bind.Table[Restarted]("cucm.Restarted", "What a restart did."),
			bind.Table[RestartState]("cucm.RestartState", "One service of a restart."),
			bind.Table[Service]("cucm.Service", "A service of the platform, as its command line lists it."),
			bind.Table[Snapshot]("cucm.Snapshot", "All certificates of a node at one moment."),
			bind.Table[SnapshotIdentity]("cucm.SnapshotIdentity", "The certificate of one service."),
			bind.Table[SnapshotTrust]("cucm.SnapshotTrust", "The trust store of one service."),
			bind.Table[SnapshotFile]("cucm.SnapshotFile", "One trusted certificate."),
			bind.Table[Paths]("cucm.Paths", "Paths of the REST API, below its base unless they begin with a slash."),
		}, x509.Types()...),
	}
}

// binding is the module's state: its settings, and what each run has open to its nodes.
type binding struct {
	settings *Settings
	clients  bind.Clients[*Node, *Client]
}

type none struct{}

type serviceArgs struct {
	Service string `lua:"service" doc:"the certificate's type, such as tomcat"`
}

type certificateArgs struct {
	Certificate *x509.Certificate `lua:"certificate" doc:"the certificate; its fingerprint is compared"`
}

type uploadArgs struct {
	Service     string            `lua:"service" doc:"the certificate's type, such as tomcat"`
	Certificate *x509.Certificate `lua:"certificate" doc:"the certificate with its intermediates and, unless the node trusts it already, its root"`
}

// with returns what ask returns for a client of the node.
func with[R any](b *binding, c *bind.Call, n *Node, ask func(*Client) (R, error)) (R, error) {
	client, err := b.client(c, n)
	if err != nil {
		var zero R
		return zero, err
	}
	return ask(client)
}

func (b *binding) identity() *bind.Func {
	return &bind.Func{
		Name:    "identity",
		Doc:     "Reads the installed certificate of a service. It is served only once the service has restarted.",
		Returns: "the certificate",
		Example: `local installed = node:identity "tomcat"`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *serviceArgs) (*x509.Certificate, error) {
			return with(b, c, n, func(cl *Client) (*x509.Certificate, error) { return cl.Identity(c.Context, a.Service) })
		}),
	}
}

func (b *binding) trust() *bind.Func {
	return &bind.Func{
		Name:    "trust",
		Doc:     "Lists the trust store of a service.",
		Returns: "its certificates",
		Example: `for _, cert in ipairs(node:trust "tomcat") do log.info("trusted", { subject = cert.subject }) end`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *serviceArgs) ([]*x509.Certificate, error) {
			return with(b, c, n, func(cl *Client) ([]*x509.Certificate, error) { return cl.Trust(c.Context, a.Service) })
		}),
	}
}

func (b *binding) snapshot() *bind.Func {
	return &bind.Func{
		Name:    "snapshot",
		Doc:     "Reads all certificates, pending signing requests and trust stores of the node at once.",
		Returns: "the snapshot",
		Example: `for _, id in ipairs(node:snapshot().identities) do log.info(id.service, { ends = id.certificate.not_after }) end`,
		Impl: bind.Read(func(c *bind.Call, n *Node, _ *none) (*Snapshot, error) {
			return with(b, c, n, func(cl *Client) (*Snapshot, error) { return cl.Snapshot(c.Context) })
		}),
	}
}

func (b *binding) pendingCSR() *bind.Func {
	return &bind.Func{
		Name:    "pending_csr",
		Doc:     "Reads the signing request of a service that waits for its certificate.",
		Returns: "the signing request, or nil",
		Example: `local csr = node:pending_csr "tomcat"`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *serviceArgs) (*x509.CSR, error) {
			return with(b, c, n, func(cl *Client) (*x509.CSR, error) { return cl.PendingCSR(c.Context, a.Service) })
		}),
	}
}

func (b *binding) has() *bind.Func {
	return &bind.Func{
		Name:    "has",
		Doc:     "Asks whether a certificate is the installed one of a service, by its fingerprint. For `ctx:poll`: a cluster's certificate takes time to reach a node.",
		Returns: "whether it is; if not, why",
		Example: `local installed = node:has("tomcat", node:identity "tomcat")`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *uploadArgs) (bind.Verdict, error) {
			return with(b, c, n, func(cl *Client) (bind.Verdict, error) {
				ok, err := cl.Has(c.Context, a.Service, a.Certificate)
				return bind.Verdict{OK: ok, Reason: n.Host + " has another " + a.Service + " certificate"}, err
			})
		}),
	}
}

func (b *binding) services() *bind.Func {
	return &bind.Func{
		Name:    "services",
		Doc:     "Lists the services of the platform and their states, over SSH (`utils service list`).",
		Returns: "the services",
		Example: `for _, s in ipairs(node:services()) do if s.state ~= "STARTED" then log.warn(s.name, { state = s.state }) end end`,
		Impl: bind.Read(func(c *bind.Call, n *Node, _ *none) ([]Service, error) {
			return with(b, c, n, func(cl *Client) ([]Service, error) { return cl.Services(c.Context) })
		}),
	}
}

func (b *binding) login() *bind.Func {
	return &bind.Func{
		Name: "login",
		Doc: "Logs in over SSH, waits for the prompt, and leaves: what a restart needs, tried before anything is changed. " +
			"A wrong password is an error of kind `auth`, after one attempt.",
		Example: `node:login()`,
		Impl: bind.Read(func(c *bind.Call, n *Node, _ *none) (any, error) {
			return with(b, c, n, func(cl *Client) (any, error) { return nil, cl.Login(c.Context) })
		}),
	}
}

func (b *binding) served() *bind.Func {
	return &bind.Func{
		Name: "served",
		Doc: "Returns the certificate that the node shows in a TLS handshake: that of the connection that an earlier call has made within the last 10 seconds, " +
			"else one of its own. It need not be trusted for that. `serves` always makes a new one.",
		Returns: "the certificate, with the chain that it was shown with",
		Example: `local served = node:served()`,
		Impl: bind.Read(func(c *bind.Call, n *Node, _ *none) (*x509.Certificate, error) {
			return with(b, c, n, func(cl *Client) (*x509.Certificate, error) { return cl.Served(c.Context) })
		}),
	}
}

func (b *binding) serves() *bind.Func {
	return &bind.Func{
		Name: "serves",
		Doc: "Makes a TLS handshake with the node and compares the certificate that it shows: the proof that a restart worked. " +
			"If the node's certificate is pinned, the pin moves to this one. While a node restarts the error is temporary, so `ctx:poll` continues.",
		Returns: "the certificate as served, or false and why",
		Example: `local served = ctx:poll("verifying_certificate", { within = "15m" }, function() return node:serves(cert) end)`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *certificateArgs) (bind.Verdict, error) {
			return with(b, c, n, func(cl *Client) (bind.Verdict, error) {
				ok, served, err := cl.Serves(c.Context, a.Certificate)
				if err != nil || ok {
					return bind.Verdict{OK: ok, Value: served}, err
				}
				return bind.Verdict{Reason: fmt.Sprintf("%s still serves another certificate: sha256 %s, issued by %s", n.Host, served.SHA256, served.Issuer)}, nil
			})
		}),
	}
}

// unknown marks an error after the work was done: the probe finds the result.
func unknown(err error) error {
	p := *problem.From(err)
	p.Work = problem.Unknown
	return &p
}
