package acme

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/runtime/problem"
)

const (
	maxAnswer       = 1 << 20       // bytes of one answer
	maxNonces       = 128           // kept for later
	maxNonceTries   = 30            // of one request
	directoryMaxAge = 6 * time.Hour // then it is fetched again
)

var (
	errBadNonce = errors.New("the CA rejected the nonce")
	errOdd      = errors.New("malformed answer from the CA")
)

type cachedDirectory struct {
	acme.Directory
	raw []byte
	at  time.Time
}

// exchange carries one signed request for lego, which knows neither contexts nor shared
// nonces, hides headers, and sleeps when a nonce is rejected. The directory and the nonce
// that lego asks for come from the Client if the Client has them.
type exchange struct {
	c      *Client
	ctx    context.Context //nolint:containedctx // it lives as long as one request
	what   string          // the resource, for messages
	url    string          // that the last POST went to
	header http.Header     // of the last answer
	sent   bool            // a POST left this process
	err    error           // of the last answer
}

// do runs fn, which makes one request, with a lego Core that signs as the
// account; the header is the answer's.
func (c *Client) do(ctx context.Context, what, kid string, key crypto.Signer, fn func(*api.Core) error) (http.Header, error) {
	if _, err := c.getDirectory(ctx); err != nil {
		return nil, err
	}
	for try, lags := 1, 0; ; try++ {
		x := &exchange{c: c, ctx: ctx, what: what}
		core, done, err := c.core(x, kid, key)
		if err == nil {
			err = fn(core)
			done()
		}
		if errors.Is(x.err, errBadNonce) && try < maxNonceTries {
			if err := c.sleep(ctx, nonceWait(try)); err != nil {
				return nil, err
			}
			continue
		}
		err = x.result(err)
		if !c.behind(x, kid, err) {
			return x.header, x.outlasted(err)
		}
		if lags == 0 {
			logger(ctx).InfoContext(ctx, "the CA does not know yet what it named a moment ago: asking again", "what", what, "url", x.url, "for", lagTime)
		}
		if c.sleep(ctx, growing(lags)) != nil {
			return x.header, err // which says more than the end of ctx
		}
		lags++
	}
}

// nonceWait lets the first tries follow at once (RFC 8555 section 6.5).
func nonceWait(try int) time.Duration {
	if try <= 8 {
		return 0
	}
	return 50 * time.Millisecond
}

// result returns what a request came to; err is what lego made of it.
func (x *exchange) result(err error) error {
	if x.err == nil && err == nil {
		return nil
	}
	var e *problem.Error
	switch {
	case errors.Is(x.err, errBadNonce):
		e = &problem.Error{Kind: problem.Unavailable, Message: fmt.Sprintf("the CA rejected %d nonces in a row", maxNonceTries), Work: problem.NotDone}
	case x.err != nil:
		e = problem.From(x.err)
	default:
		e = &problem.Error{Kind: problem.Unavailable, Message: "the CA's answer to " + x.what + " is malformed", Server: err.Error(), Work: problem.Unknown, Cause: errOdd}
	}
	if !x.sent {
		e.Work = problem.NotDone
	}
	return problem.At(e, "", x.c.directory.Host)
}

// RoundTrip implements http.RoundTripper.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	if answer := x.fromCache(req); answer != nil {
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.c.opts.Timeout)
	defer cancel()
	req = req.Clone(ctx)
	if strings.HasPrefix(req.UserAgent(), "Go-http-client") || req.UserAgent() == "" {
		req.Header.Set("User-Agent", x.c.opts.UserAgent)
	}
	if req.Method == http.MethodPost {
		x.sent, x.url = true, req.URL.String()
		x.c.met(x.url)
	}
	res, err := x.c.transport.RoundTrip(req)
	if err != nil {
		return nil, x.fail(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, x.fail(err)
	}
	if len(body) > maxAnswer {
		x.err = &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("the answer to %s has more than %d bytes", x.what, maxAnswer), Work: problem.Unknown, Cause: errOdd}
		return nil, x.err
	}
	if nonce := res.Header.Get("Replay-Nonce"); nonce != "" && req.Method == http.MethodPost {
		x.c.keepNonce(nonce)
		res.Header.Del("Replay-Nonce") // else lego keeps it for itself
	}
	absolute(res.Header, req.URL)
	x.header, x.err = res.Header, nil
	if res.StatusCode >= http.StatusBadRequest {
		what := x.what
		if req.Method == http.MethodHead {
			what = "new-nonce"
		}
		p := refusal(what, res.StatusCode, res.Header, body, x.c.opts.Clock.Now())
		if x.err = p; isType(p, badNonce) {
			x.err = errBadNonce
			return nil, errBadNonce
		}
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// absolute resolves the URL of what was made, which may be relative (RFC 9110
// section 10.2.2) and which lego takes as it is.
func absolute(header http.Header, base *url.URL) {
	if at := header.Get("Location"); at != "" {
		if u, err := base.Parse(at); err == nil {
			header.Set("Location", u.String())
		}
	}
}

func (x *exchange) fail(err error) error {
	// Go's own timer of one request looks like the caller's deadline; both are timeouts.
	x.err = problem.Network(err)
	return x.err
}

// fromCache answers what the Client knows already.
func (x *exchange) fromCache(req *http.Request) *http.Response {
	dir := x.c.knownDirectory()
	if dir == nil {
		return nil
	}
	answer := &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}
	switch {
	case req.Method == http.MethodGet && req.URL.String() == x.c.directory.String():
		answer.Body = io.NopCloser(bytes.NewReader(dir.raw))
		return answer
	case req.Method == http.MethodHead && req.URL.String() == dir.NewNonceURL:
		nonce, ok := x.c.takeNonce()
		if !ok {
			return nil
		}
		answer.Header.Set("Replay-Nonce", nonce)
		return answer
	}
	return nil
}

func (c *Client) keepNonce(nonce string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.nonces) == maxNonces {
		c.nonces = append(c.nonces[:0], c.nonces[1:]...)
	}
	c.nonces = append(c.nonces, nonce)
}

// takeNonce returns the newest: the older ones are nearer to being forgotten.
func (c *Client) takeNonce() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.nonces)
	if n == 0 {
		return "", false
	}
	nonce := c.nonces[n-1]
	c.nonces = c.nonces[:n-1]
	return nonce, true
}

func (c *Client) knownDirectory() *cachedDirectory {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil || c.opts.Clock.Since(c.dir.at) > directoryMaxAge {
		return nil
	}
	return c.dir
}

// getDirectory returns the CA's directory, fetched once for all who wait for it.
func (c *Client) getDirectory(ctx context.Context) (*cachedDirectory, error) {
	if dir := c.knownDirectory(); dir != nil {
		return dir, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if dir := c.knownDirectory(); dir != nil {
		return dir, nil
	}
	x := &exchange{c: c, ctx: ctx, what: "the directory"}
	var raw []byte
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.directory.String(), nil)
	if err != nil {
		return nil, problem.From(err)
	}
	res, err := (&http.Client{Transport: x}).Do(req)
	if err == nil {
		raw, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	if err := x.result(err); err != nil {
		return nil, err
	}
	dir := &cachedDirectory{raw: raw, at: c.opts.Clock.Now()}
	if err := json.Unmarshal(raw, &dir.Directory); err != nil || dir.NewOrderURL == "" || dir.NewAccountURL == "" || dir.NewNonceURL == "" {
		return nil, &problem.Error{
			Kind: problem.Refused, Target: c.directory.String(), Message: "not an ACME directory",
			Hint: "look at the directory of acme.ca", Work: problem.NotDone,
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dir = dir
	return dir, nil
}
