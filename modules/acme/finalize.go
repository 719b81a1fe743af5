package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// Finalized looks, and returns the certificate of an order that was finalized before,
// waiting for the CA to issue it; nil if the order is still to be finalized. An order
// that cannot be is an error.
func (c *Client) Finalized(ctx context.Context, acct *Account, order *Order, csr *x509.CSR) (*x509.Certificate, error) {
	o, err := c.finalizable(ctx, acct, order, csr)
	if err != nil || o.Status == acme.StatusReady {
		return nil, err
	}
	return c.collect(ctx, acct, o, nil, csr)
}

// Finalize sends the signing request, once in an order's life, and returns the
// certificate with its chain, checked against the request.
func (c *Client) Finalize(ctx context.Context, acct *Account, order *Order, csr *x509.CSR) (*x509.Certificate, error) {
	o, err := c.finalizable(ctx, acct, order, csr)
	if err != nil {
		return nil, err
	}
	var hint http.Header
	began := c.opts.Clock.Now()
	for tries := 0; o.Status == acme.StatusReady; tries++ {
		c.forget(o.URL)
		var sent *Order
		if sent, hint, err = c.sendCSR(ctx, acct, o, csr); err == nil {
			o = sent
			break
		}
		refused := err
		if problem.From(err).Kind.Retryable() && !errors.Is(err, errOdd) {
			return nil, err
		}
		// What was known was too old, the CA took it all the same, or lego hides an
		// invalid order: look.
		if o, err = c.finalizable(ctx, acct, order, csr); err != nil {
			return nil, err
		}
		if o.Status != acme.StatusReady {
			break
		}
		c.forget(o.URL)
		if !isType(refused, orderNotReady) || c.opts.Clock.Since(began) >= lagTime {
			return nil, refused
		}
		if c.sleep(ctx, growing(tries)) != nil {
			return nil, refused
		}
	}
	return c.collect(ctx, acct, o, hint, csr)
}

// finalizable returns an order that is ready or further, and is for csr. One that is
// still pending is asked for again: it may follow its authorizations late.
func (c *Client) finalizable(ctx context.Context, acct *Account, order *Order, csr *x509.CSR) (*Order, error) {
	if err := CheckCSR(csr); err != nil {
		return nil, err
	}
	o, err := c.current(ctx, acct, order.URL)
	if err != nil {
		return nil, err
	}
	if err := isFor(o, csr); err != nil {
		return nil, err
	}
	if err := c.granted(o.Names); err != nil {
		return nil, err
	}
	if o.Status != acme.StatusPending {
		return o, nil
	}
	within := min(lagTime, c.opts.Within)
	err = c.poll(ctx, "the order", within, nil, func() (standing, error) {
		c.forget(order.URL)
		if o, err = c.current(ctx, acct, order.URL); err != nil {
			return standing{}, err
		}
		return standing{decided: o.Status != acme.StatusPending, why: joined(o.Problems)}, nil
	})
	if err == nil {
		return o, nil
	}
	if o == nil || ctx.Err() != nil {
		return nil, err
	}
	if len(o.Challenges) == 0 {
		return nil, err // its names are validated: it is only late
	}
	return nil, &problem.Error{
		Kind: problem.Conflict, Target: o.URL, Server: joined(o.Problems), Work: problem.NotDone,
		Message: fmt.Sprintf("the order is still pending after %s: %d of its names are not validated", within, len(o.Challenges)),
		Hint:    "validate it first",
	}
}

func (c *Client) sendCSR(ctx context.Context, acct *Account, o *Order, csr *x509.CSR) (*Order, http.Header, error) {
	der, err := csr.DER()
	if err != nil {
		return nil, nil, err
	}
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, nil, err
	}
	var got acme.ExtendedOrder
	header, err := c.do(ctx, "finalize", kid, key, func(core *api.Core) (err error) {
		got, err = core.Orders.UpdateForCSR(o.Finalize, der)
		return err
	})
	got.Location = o.URL
	return plain(&got), header, err
}

// collect waits for the certificate of a finalized order and downloads it.
func (c *Client) collect(ctx context.Context, acct *Account, o *Order, hint http.Header, csr *x509.CSR) (*x509.Certificate, error) {
	if o.Status != acme.StatusValid || o.Certificate == "" {
		err := c.poll(ctx, "the order", c.opts.Within, hint, func() (standing, error) {
			now, header, err := c.getOrder(ctx, acct, o.URL)
			if err != nil {
				return standing{}, err
			}
			o = plain(now)
			issued := o.Status == acme.StatusValid && o.Certificate != ""
			return standing{decided: issued || o.Status == acme.StatusInvalid, header: header, why: joined(o.Problems)}, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := failed(o); err != nil {
		return nil, err
	}
	cert, err := c.download(ctx, acct, o.Certificate)
	if err != nil {
		return nil, unsure(err)
	}
	if err := cert.Fits(csr); err != nil {
		return nil, problem.At(err, "", o.URL)
	}
	c.remember(o)
	return cert, nil
}
