package acme

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/problem"
)

// Validated looks, and returns the order if nothing is left to be proven, else nil. An
// order that has failed is an error.
func (c *Client) Validated(ctx context.Context, acct *Account, order *Order) (*Order, error) {
	o, err := c.current(ctx, acct, order.URL)
	if err != nil {
		return nil, err
	}
	if o.Status == acme.StatusPending {
		return nil, nil //nolint:nilnil // nil is the documented "not yet"
	}
	return o, nil
}

// Validate tells the CA that the challenges of order are published, unless it knows
// that, and waits until it has decided on all of them. A name that it could not validate
// is a Refused with the CA's words. A challenge that it leaves pending with an error in
// it is answered again.
func (c *Client) Validate(ctx context.Context, acct *Account, order *Order) (*Order, error) {
	o, err := c.current(ctx, acct, order.URL)
	if err != nil || o.Status != acme.StatusPending {
		return o, err
	}
	c.forget(o.URL)
	hint, err := c.respond(ctx, acct, o.Challenges)
	if err != nil {
		return nil, err
	}
	v := &validation{c: c, acct: acct, order: o, look: c.opts.Clock.Now().Add(authorizationPoll)}
	if err := c.poll(ctx, "the challenges", c.opts.Within, hint, func() (standing, error) { return v.decided(ctx) }); err != nil {
		return nil, err
	}
	if len(o.Challenges) == 1 {
		// The last authorization is valid, so the order is ready (section 7.1.6).
		done := *o
		done.Status, done.Challenges = acme.StatusReady, []Challenge{}
		c.remember(&done)
	}
	o, err = c.current(ctx, acct, order.URL)
	if err == nil && o.Status == acme.StatusPending {
		return nil, &problem.Error{
			Kind: problem.Timeout, Target: order.URL, Message: "the order is still pending though its names are validated", Work: problem.Unknown,
		}
	}
	return o, err
}

// respond answers all challenges that wait for it.
func (c *Client) respond(ctx context.Context, acct *Account, challenges []Challenge) (http.Header, error) {
	headers := make([]http.Header, len(challenges))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for i, ch := range challenges {
		if ch.Status != acme.StatusPending {
			continue
		}
		group.Go(func() (err error) {
			headers[i], err = c.answer(gctx, acct, ch)
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

// answer answers one challenge. A refusal may come after the CA took it, or decided
// by an earlier one: the authorization shows that.
func (c *Client) answer(ctx context.Context, acct *Account, ch Challenge) (http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, err
	}
	header, err := c.do(ctx, "challenge", kid, key, func(core *api.Core) error {
		_, err := core.Challenges.New(ch.URL)
		return err
	})
	switch {
	case err == nil || isType(err, malformed):
		return header, nil
	case problem.From(err).Kind.Retryable():
		return nil, err
	}
	a, header, lookErr := c.getAuthorization(ctx, acct, ch.Authorization)
	if lookErr != nil {
		return nil, unsure(lookErr)
	}
	if a.Status != acme.StatusPending || !slices.ContainsFunc(a.Challenges, func(now acme.Challenge) bool {
		return now.URL == ch.URL && now.Status == acme.StatusPending && now.Error == nil
	}) {
		return header, nil
	}
	return nil, err
}

const (
	// authorizationPoll is how often the authorizations of an order with several names
	// are looked at while the order says that it is pending.
	authorizationPoll = 5 * time.Second
	// answerAgain is the first wait before a challenge that is pending with an error is
	// answered again (section 8.2); the next are twice as long each.
	answerAgain = 5 * time.Second
)

// validation waits for the CA to decide on the challenges of an order.
type validation struct {
	c     *Client
	acct  *Account
	order *Order
	look  time.Time // when the authorizations are looked at next, if the order answers for them
	again time.Time // when the challenges that failed for now are answered again
	wait  time.Duration
}

// decided asks whether the CA has decided: one authorization is asked for itself,
// because then the CA says when to come again. For several the order answers for all,
// and at times they are looked at: an order may stay pending long after one of its
// names is refused.
func (v *validation) decided(ctx context.Context) (standing, error) {
	if len(v.order.Challenges) == 1 {
		a, header, err := v.c.getAuthorization(ctx, v.acct, v.order.Challenges[0].Authorization)
		if err != nil {
			return standing{}, err
		}
		s, err := v.weigh(ctx, []acme.Authorization{a})
		s.header = header
		return s, err
	}
	now, header, err := v.c.getOrder(ctx, v.acct, v.order.URL)
	switch {
	case err != nil:
		return standing{}, err
	case now.Status == acme.StatusInvalid:
		return standing{decided: true}, nil
	case now.Status != acme.StatusPending:
		v.c.remember(plain(now))
		return standing{decided: true}, nil
	}
	s := standing{header: header, why: joined(plain(now).Problems)}
	if at := v.c.opts.Clock.Now(); !at.Before(v.look) {
		v.look = at.Add(authorizationPoll)
		authz, err := v.c.getAuthorizations(ctx, v.acct, now.Authorizations)
		if err != nil {
			return standing{}, err
		}
		seen, err := v.weigh(ctx, authz)
		if err != nil {
			return standing{}, err
		}
		// With all of them valid it is the order that is behind.
		if s.why = seen.why; seen.decided {
			s.why = "the order is still pending though its names are validated"
		}
	}
	return s, nil
}

// weigh says what authorizations come to: decided if all are valid, an error if one has
// failed. Challenges that are pending with an error are answered again.
func (v *validation) weigh(ctx context.Context, authz []acme.Authorization) (standing, error) {
	whole := *v.order
	whole.Problems = nil
	open := 0
	for _, a := range authz {
		whole.update(a)
		if a.Status != acme.StatusValid {
			open++
		}
	}
	if err := failed(&whole); err != nil {
		return standing{}, err
	}
	if open == 0 {
		return standing{decided: true}, nil
	}
	v.retry(ctx, authz)
	return standing{why: joined(whole.Problems)}, nil
}

// retry answers the challenges again that are pending with an error which may pass with
// time: some CAs leave them so until they are asked to look again.
func (v *validation) retry(ctx context.Context, authz []acme.Authorization) {
	var failing []Challenge
	for _, a := range authz {
		for _, ch := range a.Challenges {
			if a.Status == acme.StatusPending && ch.Type == dns01 && ch.Status == acme.StatusPending && ch.Error != nil && fromDocument(ch.Error).temporary() {
				failing = append(failing, Challenge{Identifier: a.Identifier.Value, URL: ch.URL, Status: ch.Status})
			}
		}
	}
	now := v.c.opts.Clock.Now()
	switch {
	case len(failing) == 0:
		return
	case v.wait == 0:
		v.wait, v.again = answerAgain, now.Add(answerAgain)
	}
	if now.Before(v.again) {
		return
	}
	v.wait *= 2
	v.again = now.Add(v.wait)
	for i := range failing {
		failing[i].Authorization = v.authorization(failing[i].URL)
	}
	if _, err := v.c.respond(ctx, v.acct, failing); err != nil {
		logger(ctx).InfoContext(ctx, "a challenge could not be answered again", "error", err.Error())
	}
}

// authorization returns the URL of the authorization that a challenge belongs to.
func (v *validation) authorization(challenge string) string {
	for _, ch := range v.order.Challenges {
		if ch.URL == challenge {
			return ch.Authorization
		}
	}
	return ""
}

// current returns what was seen of an order, or asks. What acts on it forgets it, so that
// the next look asks. An order that has failed or expired is an error.
func (c *Client) current(ctx context.Context, acct *Account, orderURL string) (*Order, error) {
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

// update records what an authorization says about o: its own state decides over its
// order's, which may follow late or never.
func (o *Order) update(a acme.Authorization) {
	found := problemsOf(a)
	switch a.Status {
	case acme.StatusInvalid, acme.StatusDeactivated, acme.StatusExpired, acme.StatusRevoked:
		o.Status = acme.StatusInvalid
		if len(found) == 0 {
			found = []Problem{{Identifier: a.Identifier.Value, Detail: "the authorization is " + a.Status}}
		}
	}
	o.Problems = append(o.Problems, found...)
}

// failed returns the error of an invalid order: what the CA answered about a name, or
// about the order.
func failed(o *Order) error {
	if o.Status != acme.StatusInvalid {
		return nil
	}
	e := &problem.Error{
		Kind: problem.OrderGone, Target: o.URL, Message: "the order has become invalid",
		Hint: "a new run places a new one", Work: problem.NotDone,
	}
	e.Server = joined(o.Problems)
	for i := range o.Problems {
		p := &o.Problems[i]
		if e.Cause == nil || p.Identifier != "" && e.Kind != problem.Refused {
			e.Cause = p
		}
		if p.Identifier == "" || e.Kind == problem.Refused {
			continue
		}
		e.Target = p.Identifier
		if p.Type == "" {
			continue // it has ended, and the CA does not say why
		}
		e.Kind = problem.Refused
		e.Message = "the CA could not validate " + p.Identifier
		e.Hint = p.verdict().hint
		if p.deciding().Type == "unauthorized" {
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
