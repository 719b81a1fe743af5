package cucm

import (
	"bytes"
	"context"
	"crypto/rand"
	stdx509 "crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// answering is a node that returns one answer to everything.
type answering struct {
	status int
	body   []byte
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body)), Request: r}, nil
}

// Whatever a node answers, it is a value or a problem that names the node.
func FuzzAnswers(f *testing.F) {
	ca := newAuthority(f)
	leaf, request := ca.pair(f)
	quoted := func(s string) string { text, _ := json.Marshal(s); return string(text) }
	f.Add(200, `{"service":"tomcat","certificates":[{"certificate":`+quoted(leaf)+`}]}`)
	f.Add(200, `{"service":"tomcat","csr":`+quoted(request)+`}`)
	f.Add(200, `{"server":{"name":"x"},"identities":[{"service":"tomcat","certificate":`+quoted(leaf)+`,"csr":`+quoted(request)+`}],"trusts":[{"service":"tomcat","certificate_data":[{"certificate":`+quoted(leaf)+`}]}]}`)
	f.Add(200, `{"server":[],"identities":[null,{"service":5}]}`)
	f.Add(200, `{"identities":[{"certificate":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}],"trusts":[null]}`)
	f.Add(400, `{"messages":["CSR does not exist\u001b[2J"],"trackingId":"x"}`)
	f.Add(503, `<html>`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		c, err := New(Options{Host: pub, Username: admin, Password: func(context.Context) (string, error) { return password, nil }})
		if err != nil {
			t.Fatal(err)
		}
		c.http = &http.Client{Transport: answering{status, []byte(body)}, CheckRedirect: c.http.CheckRedirect}
		for call, ask := range map[string]func() error{
			"identity": func() error { _, err := c.Identity(t.Context(), "tomcat"); return err },
			"trust":    func() error { _, err := c.Trust(t.Context(), "tomcat"); return err },
			"snapshot": func() error { _, err := c.Snapshot(t.Context()); return err },
			"pending":  func() error { _, err := c.PendingCSR(t.Context(), "tomcat"); return err },
			"csr": func() error {
				csr, err := c.GenerateCSR(t.Context(), CSRRequest{})
				if err == nil {
					_ = c.checkNames(CSRRequest{}, csr)
				}
				return err
			},
		} {
			e := problem.From(ask())
			if e != nil && (e.Kind == problem.Internal || e.Target == "" || strings.Contains(e.Error(), "\n")) {
				t.Errorf("%s of %d %q: %+v", call, status, body, e)
			}
		}
	})
}

// pair is a certificate and a signing request, PEM.
func (a *authority) pair(t testing.TB) (leaf, request string) {
	t.Helper()
	csr := testCSR(t)
	return a.issue(t, csr, nil).PEM, csr.PEM
}

func testCSR(t testing.TB) *x509.CSR {
	t.Helper()
	der, err := stdx509.CreateCertificateRequest(rand.Reader, &stdx509.CertificateRequest{DNSNames: []string{pub}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
