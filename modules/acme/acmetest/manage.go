package acmetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// call asks Pebble behind the proxy, past faults and ledger.
func (c *CA) call(ctx context.Context, method, path string, body []byte) (*httptest.ResponseRecorder, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := httptest.NewRequestWithContext(ctx, method, "https://"+c.host+path, bytes.NewReader(body))
	r.Header.Set("User-Agent", "acmetest") // Pebble refuses a request without one
	rec := httptest.NewRecorder()
	c.backend.handler.ServeHTTP(rec, r)
	if rec.Code >= 300 {
		return nil, fmt.Errorf("%s %s: pebble answered %d: %s", method, path, rec.Code, strings.TrimSpace(rec.Body.String()))
	}
	return rec, nil
}

func (c *CA) fetchIssuers(ctx context.Context, n int) error {
	for i := range n {
		root, err := c.call(ctx, http.MethodGet, "/roots/"+strconv.Itoa(i), nil)
		if err != nil {
			return err
		}
		intermediate, err := c.call(ctx, http.MethodGet, "/intermediates/"+strconv.Itoa(i), nil)
		if err != nil {
			return err
		}
		c.roots = append(c.roots, root.Body.String())
		c.intermediates = append(c.intermediates, intermediate.Body.String())
	}
	return nil
}

// nonce returns a fresh nonce, "" when Pebble is gone.
func (c *CA) nonce(ctx context.Context) string {
	rec, err := c.call(ctx, http.MethodHead, "/nonce-plz", nil)
	if err != nil {
		return ""
	}
	return rec.Header().Get("Replay-Nonce")
}

// RenewalInfo is the answer of a CA (RFC 9773 section 4.2) that suggests to
// renew between start and end.
func RenewalInfo(start, end time.Time) string {
	return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`,
		start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
}

// SetRenewalInfo fixes the body with which the CA answers for a certificate of
// its own, given in PEM. It may be malformed on purpose; "" goes back to
// Pebble's own window.
func (c *CA) SetRenewalInfo(ctx context.Context, certPEM, body string) error {
	request, err := json.Marshal(map[string]string{"Certificate": certPEM, "ARIResponse": body})
	if err != nil {
		return err
	}
	if _, err := c.call(ctx, http.MethodPost, "/set-renewal-info/", request); err != nil {
		return fmt.Errorf("acmetest: %w", err)
	}
	return nil
}

// CertificateStatus is the status of a certificate that the CA issued. An
// unknown serial is an error.
type CertificateStatus struct {
	Revoked bool
	Reason  int // RFC 5280 section 5.3.1; 0 if none was set
}

// CertificateStatus looks up a serial, in hex.
func (c *CA) CertificateStatus(ctx context.Context, serial string) (CertificateStatus, error) {
	rec, err := c.call(ctx, http.MethodGet, "/cert-status-by-serial/"+serial, nil)
	if err != nil {
		return CertificateStatus{}, fmt.Errorf("acmetest: %w", err)
	}
	var answer struct {
		Status string
		Reason int
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		return CertificateStatus{}, fmt.Errorf("acmetest: certificate status: %w", err)
	}
	return CertificateStatus{Revoked: answer.Status == "Revoked", Reason: answer.Reason}, nil
}
