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
			t.Errorf("%d %q gives %+v", status, body, e)
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
			t.Errorf("status %q gives %v", out.Status, err)
		}
	})
}

func TestAlternates(t *testing.T) {
	header := http.Header{"Link": {
		`<https://ca/dir>;rel="index", <https://ca/cert/1/1>;rel="alternate"`,
		`<https://ca/cert/1/2>; rel=alternate`, `<https://ca/up>; rel="up"`, `nonsense`,
	}}
	if got := strings.Join(alternates(header), " "); got != "https://ca/cert/1/1 https://ca/cert/1/2" {
		t.Errorf("got %s", got)
	}
}
