package dns

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// defaultEndpoints are the DNS over HTTPS services of Cloudflare and of Google.
func defaultEndpoints() []string {
	return []string{"https://cloudflare-dns.com/dns-query", "https://dns.google/dns-query"}
}

// isEndpoint reports whether s is a URL for DNS over HTTPS.
func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

const dnsMessage = "application/dns-message"

// askHTTPS puts a question to a DNS over HTTPS endpoint (RFC 8484), the way that the
// providers' APIs are reached.
func (c *Client) askHTTPS(ctx context.Context, endpoint, name string, qtype uint16) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(fqdn(name), qtype)
	q.Id = 0 // RFC 8484 section 4.1
	wire, err := q.Pack()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(wire))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", dnsMessage)
	req.Header.Set("Accept", dnsMessage)
	resp, err := c.httpClient(nil).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mdns.MaxMsgSize))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		words, _ := serverWords(body)
		return nil, problem.Status(resp.StatusCode, resp.Header, words, c.opt.Clock.Now())
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != dnsMessage {
		return nil, nonsense("not a DNS message but " + strconv.Quote(resp.Header.Get("Content-Type")))
	}
	return readAnswer(body, q)
}

// nonsense is the error of a malformed answer.
func nonsense(why string) error {
	return &problem.Error{Kind: problem.Unavailable, Message: "the answer is malformed: " + why, Work: problem.Unknown}
}

// readAnswer reads a DNS message that has to answer q.
func readAnswer(wire []byte, q *mdns.Msg) (*mdns.Msg, error) {
	a := new(mdns.Msg)
	if err := a.Unpack(wire); err != nil {
		return nil, nonsense(err.Error())
	}
	if !a.Response || !answersTo(a, q) {
		return nil, nonsense("it is to another question")
	}
	return a, nil
}
