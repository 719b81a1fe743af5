package acme

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"moonseal/runtime/problem"
)

func FuzzRefusal(f *testing.F) {
	f.Add(403, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"no"}`, "120")
	f.Add(429, `{"type":"urn:ietf:params:acme:error:rateLimited","subproblems":[{"identifier":{"value":"x"}}]}`, "Fri, 31 Dec 1999 23:59:59 GMT")
	f.Add(502, `<html>`, "-1")
	f.Fuzz(func(t *testing.T, status int, body, retry string) {
		if status < 400 || status > 599 {
			return
		}
		e := refusal("new-order", status, http.Header{"Retry-After": {retry}}, []byte(body), time.Now())
		if e.Kind == "" || e.Message == "" || strings.Contains(e.Error(), "\n") {
			t.Errorf("%d %q returns %+v", status, body, e)
		}
		if status >= 500 && e.Work != problem.Unknown {
			t.Errorf("%d and yet surely %s", status, e.Work)
		}
	})
}

func FuzzOrder(f *testing.F) {
	f.Add(`{"status":"pending","expires":"2026-11-24T00:00:00Z","identifiers":[{"type":"dns","value":"A.example.com"}],"authorizations":["https://ca/1"]}`)
	f.Add(`{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:dns","subproblems":[{}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var o acme.ExtendedOrder
		if json.Unmarshal([]byte(body), &o.Order) != nil {
			return
		}
		out := plain(&o)
		if out.Names == nil || out.Challenges == nil || out.Problems == nil {
			t.Errorf("a list is missing: %+v", out)
		}
		if err := failed(out); (err != nil) != (out.Status == acme.StatusInvalid) {
			t.Errorf("status %q returns %v", out.Status, err)
		}
	})
}

// A challenge is for a name of the order, whatever the CA answers.
func FuzzAuthorization(f *testing.F) {
	f.Add(`{"status":"pending","identifier":{"type":"dns","value":"a.example.com"},"challenges":[{"type":"dns-01","token":"t","url":"https://ca/1"}]}`)
	f.Add(`{"status":"pending","identifier":{"type":"dns","value":"EXAMPLE.com"},"wildcard":true,"challenges":[{"type":"dns-01","token":"t"}]}`)
	f.Add(`{"identifier":{"type":"dns","value":"www.example.com"},"challenges":[{"type":"dns-01","error":{"type":"x","subproblems":[{}]}}]}`)
	f.Add(`{"identifier":{"type":"ip","value":"a.example.com"},"challenges":[null]}`)
	o := &Order{URL: "https://ca/order", Names: []string{"*.example.com", "a.example.com"}}
	f.Fuzz(func(t *testing.T, body string) {
		var a acme.Authorization
		if json.Unmarshal([]byte(body), &a) != nil {
			return
		}
		_ = problemsOf(a)
		if err := isOf(a, o); err != nil {
			if e := problem.From(err); e.Kind != problem.Mismatch || strings.Contains(e.Error(), "\n") {
				t.Errorf("%q returns %+v", body, e)
			}
			return
		}
		ch, err := challenge(func(token string) (string, error) { return token, nil }, "https://ca/authz", a)
		if name := strings.ToLower(ch.Name); err == nil && name != "_acme-challenge.example.com." && name != "_acme-challenge.a.example.com." {
			t.Errorf("%q returns a challenge at %q", body, ch.Name)
		}
	})
}

func TestAlternates(t *testing.T) {
	header := http.Header{"Link": {
		`<https://ca/dir>;rel="index", <https://ca/cert/1/1>;rel="alternate"`,
		`<https://ca/cert/1/2>; rel=alternate`, `<https://ca/up>; rel="up"`, `nonsense`,
		`</cert/1/3>;title="x, y";rel="alternate", <4>; REL = "up Alternate"`, `<https://ca/cert/1/1>;rel=alternate`,
		`<http://ca/plain>;rel=alternate, <https://ca/title>;title=";rel=alternate"`,
	}}
	if got := strings.Join(alternates("https://ca/cert/1/", header), " "); got != "https://ca/cert/1/1 https://ca/cert/1/2 https://ca/cert/1/3 https://ca/cert/1/4" {
		t.Errorf("got %s", got)
	}
}
