package acme

import (
	"cmp"
	"time"

	"moonseal/modules/x509"
	"moonseal/runtime/bind"
)

// Settings are those under modules.acme in the config.
type Settings struct {
	// Directories maps names to the directory URLs of CAs; a name that is known already
	// gets another URL.
	Directories map[string]string `yaml:"directories"`
	Timeout     time.Duration     `yaml:"timeout"` // of one request; 30s when 0
	Within      time.Duration     `yaml:"within"`  // how long one call waits for the CA to decide; 5m when 0
}

// Module is what require "acme" returns.
func Module() *bind.Module {
	b := &binding{settings: &Settings{}}
	return &bind.Module{
		Name:     "acme",
		Doc:      "Gets certificates from an ACME CA (RFC 8555) for keys that an appliance holds, by DNS challenges, and knows when to renew (RFC 9773).",
		Settings: b.settings,
		Functions: []*bind.Func{{
			Name: "ca", Table: true,
			Doc:     "Describes a certificate authority. No request is sent yet.",
			Returns: "the CA",
			Example: `local ca = acme.ca { directory = "letsencrypt", email = "admin@automate.builders" }`,
			Impl:    bind.Pure(b.ca),
		}},
		Types: []*bind.Type{
			bind.Examined(bind.Handle[CA]("acme.CA", 1, "A certificate authority, and how to use it.", b.renewal(), b.issued(), b.account()),
				func(ca *CA) string { return cmp.Or(ca.Directory, "letsencrypt") }, b.examine),
			bind.Handle[Account]("acme.Account", 1, "An account at a CA. Its key is a file below accounts/_acme.", b.order(), b.state(), b.validate(), b.finalize()),
		},
		Plain: append([]*bind.Type{
			bind.Table[Order]("acme.Order", "An order as the CA showed it last."),
			bind.Table[Challenge]("acme.Challenge", "What has to be published in the DNS to prove one name."),
			bind.Table[Problem]("acme.Problem", "What a CA says is wrong (RFC 8555 section 6.7)."),
			bind.Table[Renewal]("acme.Renewal", "Whether a certificate is to be renewed, when, and why."),
		}, x509.Types()...),
	}
}

// binding is the module's state: its settings, and a client for each run and CA,
// so that a run's steps share connections, nonces, and what was seen of orders.
type binding struct {
	settings *Settings
	clients  bind.Clients[CA, *Client]
}

func (b *binding) client(c *bind.Call, ca *CA) (*Client, error) {
	return b.clients.Get(c, *ca, func() (*Client, error) {
		opts := Options{
			Store: c.Account, Clock: c.Clock, Directories: b.settings.Directories, Timeout: b.settings.Timeout, Within: b.settings.Within,
			Through: c.Network.Transport(), Granted: c.Network.Name,
			RootCAs: c.Network.Roots(), Bundle: c.Network.Bundle(), SystemRoots: c.Network.SystemRootsOf,
		}
		if !ca.EAB.HMAC.IsZero() {
			opts.HMAC = c.Secret(ca.EAB.HMAC)
		}
		return New(*ca, opts)
	})
}

// ca checks what can be checked without a request.
func (b *binding) ca(ca *CA) (*CA, error) {
	if err := ca.check(b.settings.Directories); err != nil {
		return nil, err
	}
	return ca, nil
}

type none struct{}

type renewalArgs struct {
	Installed *x509.Certificate `lua:"installed,optional" doc:"the certificate that is in use; nil if there is none"`
	Options   RenewalOptions    `lua:"options,optional" doc:"bounds"`
}

func (b *binding) renewal() *bind.Func {
	return &bind.Func{
		Name: "renewal",
		Doc: "Decides whether a certificate is to be renewed, and when: at once if it is missing, self-signed, expired or for other names; " +
			"in the window that the CA suggests (RFC 9773); else `renew_before` its end; else after two thirds of its lifetime, half if that is below 10 days. " +
			"An answer of the CA that is not a valid window lets the next rule decide, and is logged. " +
			"Unless the error is temporary, no run asks that CA about that certificate again for six hours. " +
			"A certificate is left alone until it is a day old, or half of its lifetime if that is less. " +
			"In a run with `--force` it is always due, and `forced` is set.",
		Returns: "the decision",
		Example: `local renewal = ca:renewal(installed, { renew_before = "30d" })
if not renewal.due then log.info("not due", { at = renewal.at, why = renewal.reason }) end`,
		Impl: bind.Read(func(c *bind.Call, ca *CA, a *renewalArgs) (*Renewal, error) {
			client, err := b.client(c, ca)
			if err != nil {
				return nil, err
			}
			r, err := client.Renewal(withLogger(c.Context, c.Log), a.Installed, a.Options)
			if err != nil {
				return nil, err
			}
			if r.ARIError != "" {
				c.Log.InfoContext(c.Context, "no renewal window from the CA: another rule decides",
					"error", r.ARIError, "issuer", a.Installed.Issuer, "rule", r.Source, "look_again", r.LookAgain)
			}
			if c.Force && !r.Due {
				r.Due, r.Forced = true, true
				r.Reason = "requested with --force; otherwise: " + r.Reason
			}
			return r, nil
		}),
	}
}

type csrArgs struct {
	CSR *x509.CSR `lua:"csr" doc:"the signing request, as cucm returns it"`
}

func (b *binding) issued() *bind.Func {
	return &bind.Func{
		Name: "issued",
		Doc: "Looks in the state directory for a certificate that an earlier run got: for this signing request's key and names, and not expired. " +
			"With it there is nothing to order.",
		Returns: "the certificate, or nil",
		Example: `local cert = ca:issued(csr)`,
		Impl: bind.Read(func(c *bind.Call, ca *CA, a *csrArgs) (*x509.Certificate, error) {
			client, err := b.client(c, ca)
			if err != nil || a.CSR.Host == "" || a.CSR.Service == "" {
				return nil, err
			}
			leaf, chain, err := c.Account.Certificate(a.CSR.Host, a.CSR.Service)
			if err != nil {
				return nil, err
			}
			return client.Fitting(a.CSR, leaf, chain)
		}),
	}
}

func (b *binding) account() *bind.Func {
	return &bind.Func{
		Name: "account",
		Doc: "Finds the account of the CA's email again, or registers it, which agrees to the CA's terms of service. " +
			"The account's key is on disk before the CA hears of it.",
		Returns: "the account",
		Example: `local acct = ca:account()`,
		Impl: bind.Effectful(bind.Effect[CA, none, none, *Account]{
			Look: func(c *bind.Call, ca *CA, _ *none) (none, *Account, bool, error) {
				client, err := b.client(c, ca)
				if err != nil {
					return none{}, nil, false, err
				}
				known, err := client.Known(withLogger(c.Context, c.Log))
				return none{}, known, known != nil, err
			},
			Do: func(c *bind.Call, ca *CA, _ *none, _ none) (*Account, error) {
				client, err := b.client(c, ca)
				if err != nil {
					return nil, err
				}
				return client.Account(withLogger(c.Context, c.Log))
			},
			Repeatable: true,
		}),
	}
}
