package acme

import (
	"encoding/json"
	"errors"

	"moonseal/modules/x509"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

func (b *binding) order() *bind.Func {
	return &bind.Func{
		Name: "order", Table: true,
		Doc: "Places an order for exactly the DNS names of a signing request. A common name that is not among them is refused: the CA would add it. " +
			"A name that the config's grants do not allow is refused too. " +
			"`replaces` is sent where the CA knows that certificate (RFC 9773), and exempts the order from rate limits.",
		Returns: "the order, with the challenges of the names that are still to be proven",
		Example: `local order = acct:order { csr = csr, replaces = installed }`,
		Impl: bind.Effectful(bind.Effect[Account, OrderRequest, none, *Order]{
			Look: func(c *bind.Call, acct *Account, a *OrderRequest) (none, **Order, error) {
				client, err := b.of(c, acct)
				if err == nil {
					err = CheckCSR(a.CSR)
				}
				if err == nil {
					err = client.granted(a.CSR.Names)
				}
				return none{}, nil, err
			},
			Do: func(c *bind.Call, acct *Account, a *OrderRequest, _ none) (*Order, error) {
				client, err := b.of(c, acct)
				if err != nil {
					return nil, err
				}
				if order, err := placedBefore(c, client, acct, a.CSR); order != nil || err != nil {
					return order, err
				}
				order, err := client.place(withLogger(c.Context, c.Log), acct, *a, kept(c, a))
				if err != nil && order != nil {
					return nil, errors.Join(err, c.Progress(placed{URL: order.URL}))
				}
				if err == nil && a.Replaces != nil && order.Replaces == "" {
					c.Log.InfoContext(c.Context, "the CA takes this as a new order, not as a replacement", "serial", a.Replaces.Serial)
				}
				return order, err
			},
			Repeatable: true,
		}),
	}
}

// kept reports whether the certificate that an order replaces is the one that an
// earlier run got for the same host and service: whose it is follows from that, and
// from no answer of the CA's.
func kept(c *bind.Call, a *OrderRequest) bool {
	if a.Replaces == nil || a.CSR.Host == "" || a.CSR.Service == "" {
		return false
	}
	leaf, _, err := c.Account.Certificate(a.CSR.Host, a.CSR.Service)
	if err != nil || leaf == "" {
		return false
	}
	cert, err := x509.Parse(leaf)
	return err == nil && cert.SHA256 == a.Replaces.SHA256
}

// placed is the progress of an order that could not be looked at any more.
type placed struct {
	URL string `lua:"url" json:"url" doc:"the order's URL"`
}

// placedBefore returns the order that an earlier attempt placed, nil where there
// is none that is of use.
func placedBefore(c *bind.Call, client *Client, acct *Account, csr *x509.CSR) (*Order, error) {
	var earlier placed
	if len(c.Earlier) == 0 || json.Unmarshal(c.Earlier, &earlier) != nil || earlier.URL == "" {
		return nil, nil //nolint:nilnil,nilerr // nil is the documented "none"
	}
	order, err := client.Get(withLogger(c.Context, c.Log), acct, earlier.URL)
	if problem.From(err) != nil && problem.From(err).Kind == problem.OrderGone || err == nil && order.Status == "invalid" {
		return nil, nil //nolint:nilnil // it is of no use: place another
	}
	if err != nil {
		return nil, unsure(err)
	}
	return order, isFor(order, csr)
}

type orderArgs struct {
	Order *Order `lua:"order" doc:"the order; only its URL is used, the rest is asked for again"`
}

func (b *binding) state() *bind.Func {
	return &bind.Func{
		Name:    "state",
		Doc:     "Asks the CA how an order stands.",
		Returns: "the order as it is now",
		Example: `local now = acct:state(order)
log.info("order", { status = now.status })`,
		Impl: bind.Read(func(c *bind.Call, acct *Account, a *orderArgs) (*Order, error) {
			client, err := b.of(c, acct)
			if err != nil {
				return nil, err
			}
			return client.Get(withLogger(c.Context, c.Log), acct, a.Order.URL)
		}),
	}
}

func (b *binding) validate() *bind.Func {
	return &bind.Func{
		Name: "validate",
		Doc: "Tells the CA that the order's challenges are published, where it does not know that, and waits until it has decided on all of them. " +
			"A challenge that the CA leaves pending with an error is answered again; its words are logged. " +
			"A name that it cannot validate is an error of kind `refused` with the CA's words.",
		Returns: "the order, now ready",
		Example: `ctx:step("completing_validation", { retry = 3 }, function() return acct:validate(order) end)`,
		// No probe: Validate looks first itself, and an order that has failed is
		// that error rather than a question that nobody can answer.
		Impl: bind.Effectful(bind.Effect[Account, orderArgs, none, *Order]{
			Look: func(c *bind.Call, acct *Account, a *orderArgs) (none, **Order, error) {
				done, err := b.validated(c, acct, a)
				return none{}, found(done), err
			},
			Do: func(c *bind.Call, acct *Account, a *orderArgs, _ none) (*Order, error) {
				client, err := b.of(c, acct)
				if err != nil {
					return nil, err
				}
				return client.Validate(withLogger(c.Context, c.Log), acct, a.Order)
			},
			Repeatable: true,
		}),
	}
}

func (b *binding) validated(c *bind.Call, acct *Account, a *orderArgs) (*Order, error) {
	client, err := b.of(c, acct)
	if err != nil {
		return nil, err
	}
	return client.Validated(withLogger(c.Context, c.Log), acct, a.Order)
}

type finalizeArgs struct {
	Order *Order    `lua:"order" doc:"the order; only its URL is used, the rest is asked for again"`
	CSR   *x509.CSR `lua:"csr" doc:"the signing request that it was placed for"`
}

func (b *binding) finalize() *bind.Func {
	return &bind.Func{
		Name: "finalize",
		Doc: "Sends the signing request, once in an order's life, and waits for the certificate. It is checked against the request, " +
			"its root is found by signature among the system's roots, the CA bundle and `roots`, and it is kept in the state folder for the request's host and service.",
		Returns: "the certificate, with its chain split into leaf, intermediates and root",
		Example: `local cert = acct:finalize(order, csr)`,
		// No probe, for the same reason as validate.
		Impl: bind.Effectful(bind.Effect[Account, finalizeArgs, none, *x509.Certificate]{
			Look: func(c *bind.Call, acct *Account, a *finalizeArgs) (none, **x509.Certificate, error) {
				done, err := b.finalized(c, acct, a)
				return none{}, found(done), err
			},
			Do: func(c *bind.Call, acct *Account, a *finalizeArgs, _ none) (*x509.Certificate, error) {
				client, err := b.of(c, acct)
				if err != nil {
					return nil, err
				}
				cert, err := client.Finalize(withLogger(c.Context, c.Log), acct, a.Order, a.CSR)
				if err != nil {
					return nil, err
				}
				return cert, keep(c, client, a.CSR, cert)
			},
			Repeatable: true,
		}),
	}
}

func (b *binding) finalized(c *bind.Call, acct *Account, a *finalizeArgs) (*x509.Certificate, error) {
	client, err := b.of(c, acct)
	if err != nil {
		return nil, err
	}
	cert, err := client.Finalized(withLogger(c.Context, c.Log), acct, a.Order, a.CSR)
	if err != nil || cert == nil {
		return nil, err
	}
	return cert, keep(c, client, a.CSR, cert)
}

// keep stores a certificate where ca:issued finds it.
func keep(c *bind.Call, client *Client, csr *x509.CSR, cert *x509.Certificate) error {
	if !client.Preferred(cert) {
		c.Log.WarnContext(c.Context, "the CA offers no chain to the preferred root: its first is taken", "preferred_chain", client.ca.PreferredChain)
	}
	if csr.Host == "" || csr.Service == "" {
		return nil
	}
	return c.Account.SaveCertificate(csr.Host, csr.Service, cert.PEM, cert.ChainPEM())
}

func (b *binding) of(c *bind.Call, acct *Account) (*Client, error) {
	if acct.CA == nil {
		return nil, &problem.Error{Kind: problem.Internal, Message: "an account without its CA"}
	}
	return b.client(c, acct.CA)
}
