package acmetest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"moonseal/modules/faults"
)

func pemOf(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func addFault(t *testing.T, set *faults.Set, f faults.Fault) int {
	t.Helper()
	id, err := set.Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// An issuance with a revocation makes every call that a client of ours makes.
func TestEveryCallHasAName(t *testing.T) {
	set := faults.New()
	for _, call := range []string{
		"acme.directory", "acme.new-nonce", "acme.new-account", "acme.new-order", "acme.order", "acme.authorization",
		"acme.challenge", "acme.finalize", "acme.certificate", "acme.renewal-info", "acme.revoke",
	} {
		addFault(t, set, faults.Fault{Call: call, Kind: faults.Delay, Times: -1})
	}
	ca := startCA(t, Options{AlwaysValid: true, Faults: set})
	client := newAccount(t, ca)
	leaf := issue(t, client, nil, "a.example.com")[0]
	if err := client.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonUnspecified); err != nil {
		t.Fatal(err)
	}
	res, err := client.HTTPClient.Get("https://" + ca.host + "/draft-ietf-acme-ari-03/renewalInfo/x.y")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	for _, f := range set.List() {
		if f.Hits == 0 {
			t.Errorf("%s was never hit", f.Call)
		}
	}
}

func TestStatusFaults(t *testing.T) {
	for _, test := range []struct {
		fault      faults.Fault
		kind       string
		retryAfter string
	}{
		{faults.Fault{Code: 429}, "urn:ietf:params:acme:error:rateLimited", "1"},
		{faults.Fault{Code: 429, Header: map[string]string{"Retry-After": "30"}}, "urn:ietf:params:acme:error:rateLimited", "30"},
		{faults.Fault{}, "urn:ietf:params:acme:error:serverInternal", ""},
		{faults.Fault{Code: 500}, "urn:ietf:params:acme:error:serverInternal", ""},
		{faults.Fault{Code: 403}, "urn:ietf:params:acme:error:unauthorized", ""},
	} {
		set := faults.New()
		ca := startCA(t, Options{AlwaysValid: true, Faults: set})
		client := newAccount(t, ca)
		test.fault.Call, test.fault.Kind = "acme.new-order", faults.Status
		addFault(t, set, test.fault)
		want := test.fault.Code
		if want == 0 {
			want = 503
		}
		_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		var problem *acme.Error
		if !errors.As(err, &problem) || problem.StatusCode != want || problem.ProblemType != test.kind ||
			problem.Header.Get("Retry-After") != test.retryAfter || problem.Detail == "" {
			t.Errorf("%d: %#v", want, err)
			continue
		}
		if problem.Header.Get("Replay-Nonce") == "" || problem.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d: header %v", want, problem.Header)
		}
		// The nonce of that answer is good, and the order was not made.
		if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err != nil {
			t.Errorf("%d: the next order: %v", want, err)
		}
		if got, err := ca.Ledger(t.Context()); err != nil || len(got.Orders) != 1 {
			t.Errorf("%d: ledger %+v, %v", want, got, err)
		}
	}
}

func TestStatusFaultWithABody(t *testing.T) {
	set := faults.New()
	ca := startCA(t, Options{AlwaysValid: true, Faults: set})
	addFault(t, set, faults.Fault{Call: "acme.directory", Kind: faults.Status, Code: 502, Body: "<html>bad gateway</html>"})
	res, err := httpClient(t, ca).Get(ca.DirectoryURL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusBadGateway || string(body) != "<html>bad gateway</html>" || strings.Contains(res.Header.Get("Content-Type"), "problem") {
		t.Errorf("%d %q %v %v", res.StatusCode, body, res.Header, err)
	}
}

// What was finalized counts, though its answer was lost and it was not requested again.
func TestLostFinalizeIsInTheLedger(t *testing.T) {
	for _, mode := range modes() {
		t.Run(string(mode), func(t *testing.T) {
			set := faults.New()
			ca := startCA(t, Options{AlwaysValid: true, Faults: set, Mode: mode})
			client := newAccount(t, ca)
			order := authorize(t, client, nil, "a.example.com")
			addFault(t, set, faults.Fault{Call: "acme.finalize", Kind: faults.Lost, Times: -1})
			if _, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, newCSR(t, "a.example.com"), true); err == nil {
				t.Fatal("the answer was not lost")
			}
			got, err := ca.Ledger(t.Context())
			if err != nil || len(got.Certificates) != 1 || got.Orders[0].Status != "valid" {
				t.Errorf("ledger: %+v, %v", got, err)
			}
			if text, err := json.Marshal(got); err != nil || !strings.Contains(string(text), got.Certificates[0].SHA256) {
				t.Errorf("as JSON: %s, %v", text, err)
			}
		})
	}
}

func TestLostNewOrderIsInTheLedger(t *testing.T) {
	set := faults.New()
	ca := startCA(t, Options{AlwaysValid: true, Faults: set})
	client := newAccount(t, ca)
	addFault(t, set, faults.Fault{Call: "acme.new-order", Kind: faults.Lost})
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err == nil {
		t.Fatal("the answer was not lost")
	}
	if got, err := ca.Ledger(t.Context()); err != nil || len(got.Orders) != 1 || got.Orders[0].Status != "pending" {
		t.Errorf("ledger: %+v, %v", got, err)
	}
}

func TestHoldIsDroppedWhenItsClientGoes(t *testing.T) {
	set := faults.New()
	ca := startCA(t, Options{AlwaysValid: true, Faults: set})
	client := newAccount(t, ca)
	id := addFault(t, set, faults.Fault{Call: "acme.new-order", Kind: faults.HoldBefore})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client.AuthorizeOrder(ctx, acme.DomainIDs("a.example.com"))
		done <- err
	}()
	if err := set.WaitHeld(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("the held call was answered")
	}
	if err := ca.Close(); err != nil { // waits for the call to end
		t.Fatal(err)
	}
	if set.List()[0].Held {
		t.Error("still held")
	}
}

func TestCloseDropsWhatIsHeld(t *testing.T) {
	for _, kind := range []faults.Kind{faults.HoldBefore, faults.HoldAfter, faults.Timeout} {
		set := faults.New()
		ca := startCA(t, Options{AlwaysValid: true, Faults: set})
		id := addFault(t, set, faults.Fault{Call: "acme.directory", Kind: kind})
		done := make(chan error, 1)
		go func() {
			res, err := httpClient(t, ca).Get(ca.DirectoryURL())
			if err == nil {
				_ = res.Body.Close()
			}
			done <- err
		}()
		if kind != faults.Timeout {
			if err := set.WaitHeld(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if err := ca.Close(); err != nil {
			t.Error(kind, err)
		}
		if err := <-done; err == nil {
			t.Error(kind, "was answered")
		}
	}
}

func TestUnknownPath(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true})
	for _, path := range []string{"/", ordersPath, "/root-keys/0", "/roots/0"} {
		res, err := httpClient(t, ca).Get("https://" + ca.host + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}
