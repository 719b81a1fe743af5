package acme

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/problem"
)

// Validated looks, and gives the order where nothing is left to be proven, else
// nil. An order that has failed is an error.
func (c *Client) Validated(ctx context.Context, acct *Account, order *Order) (*Order, error) {
	o, err := c.look(ctx, acct, order.URL)
	if err != nil {
		return nil, err
	}
	if o.Status == acme.StatusPending {
		return nil, nil //nolint:nilnil // nil is the documented "not yet"
	}
	return o, nil
}

// Validate tells the CA that the challenges of order are published, where it
// does not know that, and waits until it has decided on all of them. A name
// that it could not validate is a Refused with the CA's words.
func (c *Client) Validate(ctx context.Context, acct *Account, order *Order) (*Order, error) {
	o, err := c.look(ctx, acct, order.URL)
	if err != nil || o.Status != acme.StatusPending {
		return o, err
	}
	c.forget(o.URL)
	hint, err := c.respond(ctx, acct, o.Challenges)
	if err != nil {
		return nil, err
	}
	if err := c.poll(ctx, "the challenges", hint, func() (bool, http.Header, error) { return c.decided(ctx, acct, o) }); err != nil {
		return nil, err
	}
	if len(o.Challenges) == 1 {
		// The last authorization is valid, so the order is ready (section 7.1.6).
		done := *o
		done.Status, done.Challenges = acme.StatusReady, []Challenge{}
		c.remember(&done)
	}
	o, err = c.look(ctx, acct, order.URL)
	if err == nil && o.Status == acme.StatusPending {
		return nil, &problem.Error{
			Kind: problem.Timeout, Target: order.URL, Message: "the order is still pending though its names are validated", Work: problem.Unknown,
		}
	}
	return o, err
}

// respond answers all challenges that wait for it.
func (c *Client) respond(ctx context.Context, acct *Account, challenges []Challenge) (http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, err
	}
	headers := make([]http.Header, len(challenges))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for i, ch := range challenges {
		if ch.Status != acme.StatusPending {
			continue
		}
		group.Go(func() error {
			header, err := c.do(gctx, "challenge", kid, key, func(core *api.Core) error {
				_, err := core.Challenges.New(ch.URL)
				return err
			})
			headers[i] = header
			if isType(err, malformed) {
				// It was decided meanwhile: polling shows how.
				return nil
			}
			return problem.At(err, "", ch.Identifier)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if len(headers) == 1 {
		return headers[0], nil
	}
	return nil, nil //nolint:nilnil // several answers give no one time to come again
}

// decided asks whether the CA has decided on o: one authorization is asked for
// itself, because then the CA says when to come again; for several, the order
// answers for all.
func (c *Client) decided(ctx context.Context, acct *Account, o *Order) (bool, http.Header, error) {
	if len(o.Challenges) > 1 || len(o.Challenges) == 0 {
		now, header, err := c.getOrder(ctx, acct, o.URL)
		if err != nil {
			return false, nil, err
		}
		if now.Status == acme.StatusPending {
			return false, header, nil
		}
		if now.Status != acme.StatusInvalid {
			c.remember(plain(now))
		}
		return true, nil, nil
	}
	a, header, err := c.getAuthorization(ctx, acct, o.Challenges[0].Authorization)
	if err != nil || a.Status == acme.StatusPending {
		return false, header, err
	}
	if a.Status != acme.StatusValid {
		whole, err := c.Get(ctx, acct, o.URL)
		if err != nil {
			return false, nil, err
		}
		if err := failed(whole); err != nil {
			return false, nil, err
		}
		return false, nil, &problem.Error{
			Kind: problem.OrderGone, Target: o.Challenges[0].Identifier, Work: problem.NotDone,
			Message: "the authorization is " + a.Status, Hint: "a new run places a new order",
		}
	}
	return true, nil, nil
}

// look gives what was seen of an order, or asks. Who acts on it forgets it, so
// that the next look asks. An order that has failed or expired is an error.
func (c *Client) look(ctx context.Context, acct *Account, orderURL string) (*Order, error) {
	o := c.recall(orderURL)
	if o == nil {
		var err error
		if o, err = c.Get(ctx, acct, orderURL); err != nil {
			return nil, err
		}
	}
	if err := failed(o); err != nil {
		return nil, err
	}
	if open := o.Status == acme.StatusPending || o.Status == acme.StatusReady; open && !o.Expires.IsZero() && !o.Expires.After(c.opts.Clock.Now()) {
		return nil, &problem.Error{
			Kind: problem.OrderGone, Target: orderURL, Message: "the order expired at " + o.Expires.UTC().Format("2006-01-02 15:04:05 UTC"),
			Hint: "a new run places a new one", Work: problem.NotDone,
		}
	}
	return o, nil
}

// failed gives the error of an invalid order: what the CA said about a name, or
// about the order.
func failed(o *Order) error {
	if o.Status != acme.StatusInvalid {
		return nil
	}
	e := &problem.Error{
		Kind: problem.OrderGone, Target: o.URL, Message: "the order has become invalid",
		Hint: "a new run places a new one", Work: problem.NotDone,
	}
	for i := range o.Problems {
		p := &o.Problems[i]
		if p.Identifier == "" && slices.ContainsFunc(o.Problems, func(q Problem) bool { return q.Identifier != "" && q.Detail == p.Detail }) {
			continue // a CA says of the order what it says of a name
		}
		if e.Server != "" {
			e.Server += "; "
		}
		e.Server += p.Error()
		if e.Cause == nil || p.Identifier != "" && e.Kind != problem.Refused {
			e.Cause = p
		}
		if p.Identifier == "" || e.Kind == problem.Refused {
			continue
		}
		e.Kind, e.Target = problem.Refused, p.Identifier
		e.Message = fmt.Sprintf("the CA could not validate %s", p.Identifier)
		e.Hint = verdicts()[p.Type].hint
		if p.Type == "unauthorized" {
			e.Hint = "the CA found another TXT record than the one that was published, or none"
		}
	}
	return e
}

// maxSeen bounds what is remembered; what is forgotten is asked for again.
const maxSeen = 1024

func (c *Client) remember(o *Order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) >= maxSeen {
		maps.DeleteFunc(c.seen, func(string, *Order) bool { return true })
	}
	c.seen[o.URL] = o
}

func (c *Client) recall(orderURL string) *Order {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[orderURL]
}

func (c *Client) forget(orderURL string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, orderURL)
}
