package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// maxAnswer bounds an API's answer, in bytes.
const maxAnswer = 4 << 20

// exchange is the last request of a call to a provider's API: what the libraries
// above do not tell.
type exchange struct {
	failed error // no whole answer
	status int
	header http.Header
	body   []byte
	sent   bool // a request that changes something was answered with success
	noZone bool // Cloudflare's list of zones has none that is meant, or several
}

type exchangeKey struct{}

// observed returns a context whose API requests are noted in the exchange.
func observed(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// httpClient returns a client for one provider: bounded, not following redirects,
// noting each exchange.
func (c *Client) httpClient(change func(*http.Request)) *http.Client {
	return c.client(&noting{next: c.opt.HTTP, change: change, timeout: c.opt.RequestTimeout})
}

func (c *Client) client(n *noting) *http.Client {
	return &http.Client{
		Transport:     n,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type noting struct {
	next   http.RoundTripper
	change func(*http.Request)                           // may be nil
	narrow func(*exchange, *http.Request, []byte) []byte // changes what a library reads of an answer; may be nil

	timeout time.Duration // of a request with its answer
}

// RoundTrip reads the whole answer, so that a cut one is an error of the request.
func (n *noting) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{}
	}
	ctx, cancel := context.WithTimeout(req.Context(), n.timeout)
	defer cancel()
	req = req.Clone(ctx)
	if n.change != nil {
		n.change(req)
	}
	x.failed, x.status, x.header, x.body, x.noZone = nil, 0, nil, nil, false
	resp, body, err := n.whole(req)
	if err != nil {
		x.failed = errors.Join(err, ctx.Err())
		return nil, x.failed
	}
	x.status, x.header, x.body = resp.StatusCode, resp.Header, body
	if req.Method != http.MethodGet && resp.StatusCode < 300 {
		x.sent = true
	}
	if n.narrow != nil && resp.StatusCode == http.StatusOK {
		body = n.narrow(x, req, body)
		resp.ContentLength = int64(len(body))
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (n *noting) whole(req *http.Request) (*http.Response, []byte, error) {
	resp, err := n.next.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	_ = resp.Body.Close()
	if err == nil && len(body) > maxAnswer {
		err = errors.New("the answer is larger than 4 MiB")
	}
	return resp, body, err
}

// problemOf returns err, of a library's call that was observed in x, as what happened on
// the wire. If an earlier request of the call changed something, the work is Unknown.
func (x *exchange) problemOf(ctx context.Context, err error, target string, now time.Time) *problem.Error {
	var e *problem.Error
	switch {
	case errors.As(err, &e):
		copied := *e
		e = &copied
	case ctx.Err() != nil && x.failed == nil:
		e = problem.Network(ctx.Err())
	case x.failed != nil:
		e = problem.Network(x.failed)
	case x.status >= 400:
		words, auth := serverWords(x.body)
		e = problem.Status(x.status, x.header, words, now)
		if auth {
			e.Kind = problem.Auth
		}
		e.Tracking = tracking(x.header)
	case x.status >= 300:
		e = &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("answered %d to another place", x.status), Status: x.status, Work: problem.NotDone}
	default:
		words, _ := serverWords(x.body)
		e = &problem.Error{Kind: problem.Unavailable, Message: "the answer is malformed: " + err.Error(), Server: words, Status: x.status, Work: problem.Unknown, Cause: err}
	}
	if x.sent {
		e.Work = problem.Unknown
	}
	if e.Target == "" {
		e.Target = target
	}
	if e.Kind == problem.Auth && e.Hint == "" {
		e.Hint = "check the zone's credentials and what they may change"
	}
	return e
}

func tracking(h http.Header) string {
	for _, name := range []string{"Cf-Ray", "X-Amzn-Requestid", "X-Request-Id"} {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

var (
	htmlTitle = regexp.MustCompile(`(?is)<title>(.*?)</title>`)
	htmlTag   = regexp.MustCompile(`(?s)<[^>]*>`)
)

// serverWords returns what an error's body says, and whether it is about the
// credentials though the status does not say so.
func serverWords(body []byte) (words string, auth bool) {
	if words, auth = jsonWords(body); words != "" {
		return words, auth
	}
	if words = xmlWords(body); words != "" {
		return words, auth
	}
	text := string(body[:min(len(body), 8<<10)])
	if m := htmlTitle.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	text = strings.ToValidUTF8(html.UnescapeString(htmlTag.ReplaceAllString(text, " ")), "")
	return strings.Join(strings.Fields(text), " "), false
}

type cfProblem struct {
	Code    int         `json:"code"`
	Message string      `json:"message"`
	Chain   []cfProblem `json:"error_chain"`
}

// problemsIn returns the errors in an answer of Cloudflare's, with those that caused
// them, and the message in one of DigitalOcean's.
func problemsIn(body []byte) (problems []cfProblem, message string) {
	var answer struct {
		Errors  []cfProblem `json:"errors"`
		Message string      `json:"message"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil, ""
	}
	for _, e := range answer.Errors {
		problems = append(append(problems, e), e.Chain...)
	}
	return problems, answer.Message
}

// hasCode reports whether Cloudflare answered with one of its error codes.
func (x *exchange) hasCode(codes ...int) bool {
	problems, _ := problemsIn(x.body)
	return slices.ContainsFunc(problems, func(e cfProblem) bool { return slices.Contains(codes, e.Code) })
}

// jsonWords reads the errors of Cloudflare and of DigitalOcean.
func jsonWords(body []byte) (string, bool) {
	problems, message := problemsIn(body)
	if len(problems) == 0 {
		return message, false
	}
	parts := make([]string, 0, len(problems))
	auth := false
	for _, e := range problems {
		parts = append(parts, fmt.Sprintf("%s (%d)", e.Message, e.Code))
		switch e.Code {
		case 6003, 6111, 9106, 9109, 10000, 10001:
			auth = true
		}
	}
	return strings.Join(parts, "; "), auth
}

// xmlWords reads the errors of AWS.
func xmlWords(body []byte) string {
	var doc struct {
		Code     string   `xml:"Error>Code"`
		Message  string   `xml:"Error>Message"`
		Messages []string `xml:"Messages>Message"`
	}
	if xml.Unmarshal(body, &doc) != nil {
		return ""
	}
	words := doc.Message
	if len(doc.Messages) > 0 {
		words = strings.Join(doc.Messages, "; ")
	}
	if doc.Code != "" {
		words = doc.Code + ": " + words
	}
	return words
}
