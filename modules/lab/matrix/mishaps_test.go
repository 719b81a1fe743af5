package matrix

import (
	"fmt"
	"strconv"
	"strings"

	"moonseal/modules/faults"
)

// words are what a faulty answer says; they have to be in the error.
const words = "fault injected by the matrix"

// retryAfter is what a 429 asks for, in seconds: once a wait inside the process,
// once one that suspends the run for longer than it would wait by itself.
func retryAfter(times int) int {
	if times == 1 {
		return 7
	}
	return 95
}

// body returns a faulty answer's body as the other side of call would word it.
func body(call string, code int) string {
	switch {
	case strings.HasPrefix(call, "acme."):
		kind := "serverInternal"
		if code == 429 {
			kind = "rateLimited"
		}
		return `{"type":"urn:ietf:params:acme:error:` + kind + `","detail":"` + words + `"}`
	case strings.HasPrefix(call, "dns.cloudflare."):
		return `{"success":false,"result":null,"messages":[],"errors":[{"code":10013,"message":"` + words + `"}]}`
	case strings.HasPrefix(call, "dns.digitalocean."):
		return `{"id":"server_error","message":"` + words + `"}`
	case strings.HasPrefix(call, "dns.route53."):
		return `<?xml version="1.0"?><ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>Busy</Code><Message>` +
			words + `</Message></Error><RequestId>r-1</RequestId></ErrorResponse>`
	case strings.HasPrefix(call, "cucm."):
		return fmt.Sprintf(`{"key":%d,"messages":["%s"],"trackingId":"UC_matrix"}`, code, words)
	}
	return ""
}

// mishap is one way in which a call goes wrong.
type mishap struct {
	name  string
	kind  faults.Kind
	code  int
	body  string
	words string // that the error has to quote
}

// mishaps returns the ways in which call can go wrong. What has no HTTP has no 429:
// a DNS server answers SERVFAIL, a command line prints a text.
func mishaps(call string) []mishap {
	cut := []mishap{{name: "reset", kind: faults.Reset}, {name: "timeout", kind: faults.Timeout}, {name: "lost", kind: faults.Lost}}
	switch {
	case strings.HasPrefix(call, "dns.query"), strings.HasPrefix(call, "dns.rfc2136"):
		return append(cut, mishap{name: "SERVFAIL", kind: faults.Status, code: 2, words: "SERVFAIL"})
	case call == "cucm.ssh-login":
		return append(cut, mishap{name: "text", kind: faults.Status, body: words})
	case call == "cucm.services", call == "cucm.restart":
		return append(cut, mishap{name: "text", kind: faults.Status, body: "Executed command unsuccessfully\n" + words, words: words})
	}
	for _, code := range []int{429, 503, 500} {
		cut = append(cut, mishap{name: strconv.Itoa(code), kind: faults.Status, code: code, body: body(call, code), words: words})
	}
	return cut
}

// fault is one case of the matrix.
type fault struct {
	call   string
	mishap mishap
	times  int
	script dropIn
}

func (f fault) name() string {
	return fmt.Sprintf("%s/%s/%d", f.call, f.mishap.name, f.times)
}

// mayStop reports whether the run need not come to the call as often as it would
// be hit: what was done, and only not answered, is not done again, twice is all that a
// renewal asks about ARI, and of a zone's servers the first to answer is asked further.
func (f fault) mayStop() bool {
	return f.mishap.kind == faults.Lost || f.call == "acme.renewal-info" || strings.HasPrefix(f.call, "dns.query.ns")
}

func (f fault) entry() faults.Fault {
	e := faults.Fault{Call: f.call, Kind: f.mishap.kind, Code: f.mishap.code, Body: f.mishap.body, Times: f.times}
	if f.mishap.code == 429 {
		e.Header = map[string]string{"Retry-After": strconv.Itoa(retryAfter(f.times))}
	}
	return e
}

func (f fault) settings() settings {
	module, _, _ := strings.Cut(f.call, ".")
	switch {
	case strings.HasPrefix(f.call, "dns.query"): // over UDP nearly all of them are silence
		return patient().with("dns", "query_timeout", "1s")
	case f.mishap.kind != faults.Timeout:
		return patient()
	case f.call == "cucm.restart":
		return patient().with("cucm", "restart_timeout", "2500ms")
	default:
		return patient().with(module, "timeout", "2500ms")
	}
}

// reached are the calls of the doubles that the standard pipeline makes, each
// with the drop-in that makes it. The others (acme.account, acme.key-change,
// acme.orders, acme.revoke, dns.digitalocean.zones, dns.rfc2136.transfer,
// cucm.snapshot) are made by no renewal.
func reached() map[string]dropIn {
	const alt = `alt_names = { "phones.automate.builders" },`
	out := map[string]dropIn{
		"acme.new-account": {email: "matrix@automate.builders"},
		"acme.order":       {csr: alt}, // with several names the order is asked, not the authorization
	}
	for _, call := range []string{
		"acme.directory", "acme.new-nonce", "acme.new-order", "acme.authorization", "acme.challenge", "acme.finalize", "acme.certificate", "acme.renewal-info",
		"dns.query", "dns.query.ns1", "dns.query.ns2", "dns.query.resolver",
		"cucm.csr", "cucm.pending-csr", "cucm.upload-identity", "cucm.upload-trust", "cucm.trust", "cucm.identity",
		"cucm.ssh-login", "cucm.restart", "cucm.services",
	} {
		out[call] = dropIn{}
	}
	for provider, ops := range map[string][]string{
		"cloudflare": {"zones", "list", "create", "delete"}, "digitalocean": {"list", "create", "delete"},
		"route53": {"zones", "list", "create", "delete"}, "rfc2136": {"update"},
	} {
		for _, op := range ops {
			out["dns."+provider+"."+op] = dropIn{provider: provider}
		}
	}
	return out
}
