package acme

import (
	"context"
	"net/http"
	"time"

	"moonseal/runtime/problem"
)

// The first poll follows at once, and then the intervals double. They begin small:
// a CA that is near decides within a millisecond, and at one that takes seconds it
// makes a few polls more. A Retry-After goes before them.
const (
	firstPoll = time.Millisecond
	lastPoll  = 5 * time.Second
)

// poll calls ask until it says that the CA has decided. hint is the header of
// the answer before the first call. It gives up, saying when to come again,
// once the next call would be later than Options.Within.
func (c *Client) poll(ctx context.Context, what string, hint http.Header, ask func() (bool, http.Header, error)) error {
	end := c.opts.Clock.Now().Add(c.opts.Within)
	for interval := time.Duration(0); ; interval = min(max(2*interval, firstPoll), lastPoll) {
		now := c.opts.Clock.Now()
		at := now.Add(interval)
		if later := problem.RetryAfter(hint, now); later.After(at) {
			at = later
		}
		if at.After(end) {
			return &problem.Error{
				Kind: problem.Timeout, Target: c.directory.Host, Message: "the CA has not decided on " + what + " yet",
				RetryAfter: at, Work: problem.Unknown,
			}
		}
		if err := c.sleep(ctx, at.Sub(now)); err != nil {
			return err
		}
		decided, header, err := ask()
		if err != nil {
			return unsure(err)
		}
		if decided {
			return nil
		}
		hint = header
	}
}

// sleep waits for d or ctx.
func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		if ctx.Err() != nil {
			return problem.Network(ctx.Err())
		}
		return nil
	}
	timer := c.opts.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-ctx.Done():
		return problem.Network(ctx.Err())
	}
}

// unsure marks the error of a look that came after a change.
func unsure(err error) error {
	e := *problem.From(err)
	if e.Kind.Retryable() {
		e.Work = problem.Unknown
	}
	return &e
}
