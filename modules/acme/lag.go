package acme

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"moonseal/runtime/problem"
)

// lagTime is for how long a CA may not know what it has answered itself: its replicas
// follow one another within seconds, at times within minutes.
const lagTime = 3 * time.Minute

// growing is the wait before the question after so many that came too early.
func growing(questions int) time.Duration {
	const first, last = 250 * time.Millisecond, 10 * time.Second
	return min(first<<min(questions, 10), last)
}

// met notes when a URL of the CA's was first used, or named.
func (c *Client) met(url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.given) >= maxSeen {
		clear(c.given)
	}
	if _, ok := c.given[url]; !ok {
		c.given[url] = c.opts.Clock.Now()
	}
}

// behind reports whether err says no more than that the replica which answered is
// behind: it does not know a URL that is new here, or an account that was made a
// moment ago.
func (c *Client) behind(x *exchange, kid string, err error) bool {
	name := x.url
	switch e := problem.From(err); {
	case e == nil || name == "":
		return false
	case kid != "" && isType(err, accountDoesNotExist):
		name = kid
	case e.Status != http.StatusNotFound || x.what == replacingOrder:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.given[name]
	return ok && c.opts.Clock.Since(at) < lagTime
}

// outlasted returns the error of a URL that stays unknown. The order that named it is
// there: waiting may still help, and a new order would throw away what was done.
func (x *exchange) outlasted(err error) error {
	e := problem.From(err)
	if e == nil || e.Status != http.StatusNotFound {
		return err
	}
	switch x.what {
	case "authorization", "challenge", "finalize", "certificate":
		unknown := *e
		unknown.Kind, unknown.Work = problem.Unavailable, problem.Unknown
		unknown.Message = "the CA does not know the " + x.what + " that its order names: " + e.Message
		return &unknown
	}
	return err
}

type loggerKey struct{}

// withLogger has the calls under ctx log what they do about an odd answer.
func withLogger(ctx context.Context, log *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, log)
}

func logger(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok && log != nil {
		return log
	}
	return slog.New(slog.DiscardHandler)
}
