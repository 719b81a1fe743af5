package acme

import (
	"context"
	"fmt"
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

// standing is the result of one poll.
type standing struct {
	decided bool
	header  http.Header // says when to poll again
	why     string      // the CA's own words on why it has not decided
}

// poll calls ask until the CA has decided, for at most within. hint is the header of the
// answer before the first call. It waits as long as a Retry-After says, but asks a last
// time at its end: some CAs ask for a day although they need a minute.
func (c *Client) poll(ctx context.Context, what string, within time.Duration, hint http.Header, ask func() (standing, error)) error {
	end := c.opts.Clock.Now().Add(within)
	var why string
	for interval := time.Duration(0); ; interval = min(max(2*interval, firstPoll), lastPoll) {
		now := c.opts.Clock.Now()
		asked := problem.RetryAfter(hint, now)
		if !now.Before(end) {
			return c.undecided(what, within, asked, why)
		}
		at := now.Add(interval)
		if asked.After(at) {
			at = asked
		}
		if at.After(end) {
			if asked.After(end) {
				logger(ctx).InfoContext(ctx, "the CA asks to retry later than this step allows: it is polled earlier",
					"about", what, "retry_after", asked.Sub(now).Round(time.Second), "asked_in", end.Sub(now).Round(time.Second))
			}
			at = end
		}
		if err := c.sleep(ctx, at.Sub(now)); err != nil {
			return err
		}
		s, err := ask()
		if err != nil {
			return unsure(err)
		}
		if s.decided {
			return nil
		}
		if s.why != why && s.why != "" {
			logger(ctx).InfoContext(ctx, "the CA has not decided yet", "about", what, "server", s.why)
		}
		hint, why = s.header, s.why
	}
}

// undecided is the error of a poll that has come to its end. Its RetryAfter is never
// later than the step allows.
func (c *Client) undecided(what string, within time.Duration, asked time.Time, why string) error {
	now := c.opts.Clock.Now()
	e := &problem.Error{
		Kind: problem.Timeout, Target: c.directory.Host, Message: "the CA has not decided on " + what + " yet", Server: why,
		RetryAfter: now.Add(lastPoll), Work: problem.Unknown,
	}
	if asked.After(e.RetryAfter) {
		e.RetryAfter = asked
	}
	if latest := now.Add(within); e.RetryAfter.After(latest) {
		e.Message += fmt.Sprintf(" (it asks to retry in %s; it is polled again in %s)", asked.Sub(now).Round(time.Second), within)
		e.RetryAfter = latest
	}
	return e
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
