package cucm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// Client talks to one node. It is safe for concurrent use. A connection stays open for
// some seconds after a call, but not over a restart. It makes no retries: only a read
// that finds such a connection closed goes over a new one. All its errors are
// *problem.Error with the host as target.
type Client struct {
	o Options
	*link
}

// New makes a client; no request is sent yet.
func New(o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{o: o}
	c.link = newLink(o, c.verify)
	return c, nil
}

// over returns a client for the same node with options of its own, which uses what c has
// open.
func (c *Client) over(o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c.accept(o.Pins)
	return &Client{o: o, link: c.link}, nil
}

// Close ends the connections that are open. The client can be used again.
func (c *Client) Close() { c.close() }

// maxBody bounds an answer, in bytes: a snapshot holds some hundred certificates.
const maxBody = 8 << 20

// call is one request of the REST API.
type call struct {
	doing  string // what it is for, as in "generating a CSR"
	method string
	path   string
	query  url.Values
	in     any // JSON body; none if nil
}

// do makes the request and returns the body of an answer of 200 or 201. cut says
// that the body broke off, which matters only to those who need it.
func (c *Client) do(ctx context.Context, r call) (body []byte, cut error, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, nil, c.failed(r.doing, err)
	}
	if r.method != http.MethodGet {
		c.fresh()
	}
	var opened time.Time // of a new connection
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			opened = c.o.Clock.Now()
		}
	}}))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, c.failed(r.doing, problem.Network(err))
	}
	defer resp.Body.Close()
	if !opened.IsZero() && resp.TLS != nil {
		c.note(resp.TLS, opened)
	}
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)); err == nil {
		c.answered()
	}
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return body, nil, c.failed(r.doing, refusal(resp.StatusCode, resp.Header, body, c.o.Clock.Now()))
	case err != nil:
		return nil, c.failed(r.doing, problem.Network(err)), nil
	case len(body) > maxBody:
		return nil, c.failed(r.doing, &problem.Error{Kind: problem.Refused, Message: "the answer is longer than 8 MiB", Work: problem.Unknown}), nil
	}
	return body, nil, nil
}

// read makes a request of which the answer is needed.
func (c *Client) read(ctx context.Context, r call) ([]byte, error) {
	body, cut, err := c.do(ctx, r)
	if err == nil {
		err = cut
	}
	return body, err
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	path := r.path
	if !strings.HasPrefix(path, "/") {
		path = c.o.Paths.Base + path
	}
	host := c.o.Host
	if c.o.Port != 443 || strings.Contains(host, ":") {
		host = c.addr(c.o.Port)
	}
	u := url.URL{Scheme: "https", Host: host, Path: path, RawQuery: r.query.Encode()}
	var body io.Reader
	if r.in != nil {
		data, err := json.Marshal(r.in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, &problem.Error{Kind: problem.Usage, Message: "not a valid URL of a node: " + u.String(), Cause: err}
	}
	password, err := c.o.Password(ctx)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.o.Username, password)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func (c *Client) addr(port int) string { return net.JoinHostPort(c.o.Host, strconv.Itoa(port)) }

// failed returns err with the node as target and, in front, what was being done.
func (c *Client) failed(doing string, err error) error {
	p := *problem.From(err)
	if doing != "" {
		p.Message = doing + ": " + p.Message
	}
	if p.Target == "" {
		p.Target = c.o.Host
	}
	return &p
}

// wait lets d pass on the clock, or ends with ctx.
func (c *Client) wait(ctx context.Context, d time.Duration) error {
	t := c.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-ctx.Done():
		return problem.Network(ctx.Err())
	}
}

// kind returns the kind of an error.
func kind(err error) problem.Kind {
	if p, ok := errors.AsType[*problem.Error](err); ok {
		return p.Kind
	}
	return ""
}
