package acmetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"sync"
)

// maxBody bounds what is read between the proxy and Pebble, in bytes.
const maxBody = 64 << 20

// Ledger is what was ordered from the CA and what it issued, oldest order first.
type Ledger struct {
	Orders       []Order       `json:"orders"`
	Certificates []Certificate `json:"certificates"`
}

// Order is one order that the CA accepted.
type Order struct {
	URL         string   `json:"url"`
	Identifiers []string `json:"identifiers"`        // DNS names and IP addresses, sorted
	Status      string   `json:"status"`             // now (RFC 8555 section 7.1.6)
	Profile     string   `json:"profile"`            //
	Replaces    string   `json:"replaces,omitempty"` // ARI id of the certificate that it replaces
}

// Certificate is one leaf that the CA issued, whether or not it was downloaded.
type Certificate struct {
	Serial      string   `json:"serial"`      // hex, lower case, whole bytes
	Identifiers []string `json:"identifiers"` // the SANs, sorted
	SHA256      string   `json:"sha256"`      // hex, lower case, over the DER
	Order       string   `json:"order"`       // the order's URL
	DER         []byte   `json:"-"`
}

// ledger passes requests on and notes the orders that were made by them.
type ledger struct {
	next http.Handler

	mu     sync.Mutex
	orders []Order
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if callName(r) != "acme.new-order" {
		l.next.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	l.next.ServeHTTP(rec, r)
	if rec.Code == http.StatusCreated {
		l.note(rec.Header().Get("Location"), rec.Body.Bytes())
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func (l *ledger) note(url string, body []byte) {
	var order struct {
		Identifiers       []struct{ Value string }
		Profile, Replaces string
	}
	// Pebble's own answer: it parses, and its order counts even if it should not.
	_ = json.Unmarshal(body, &order)
	names := make([]string, len(order.Identifiers))
	for i, id := range order.Identifiers {
		names[i] = id.Value
	}
	slices.Sort(names)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders = append(l.orders, Order{URL: url, Identifiers: names, Profile: order.Profile, Replaces: order.Replaces})
}

// Ledger returns all orders and certificates so far. A certificate belongs to it
// once its finalization was accepted, though the answer may have been lost. It
// can be asked after Close unless Pebble ran in a process of its own.
func (c *CA) Ledger(ctx context.Context) (Ledger, error) {
	c.ledger.mu.Lock()
	out := Ledger{Orders: slices.Clone(c.ledger.orders), Certificates: []Certificate{}}
	c.ledger.mu.Unlock()
	ids := make([]string, len(out.Orders))
	for i, o := range out.Orders {
		ids[i] = path.Base(o.URL)
	}
	if len(ids) == 0 {
		out.Orders = []Order{}
		return out, nil
	}
	states, err := c.orderStates(ctx, ids)
	if err != nil {
		return Ledger{}, fmt.Errorf("acmetest: ledger: %w", err)
	}
	for i, s := range states {
		out.Orders[i].Status = s.Status
		if s.Certificate == nil {
			continue
		}
		cert, err := ledgerCertificate(s.Certificate, out.Orders[i].URL)
		if err != nil {
			return Ledger{}, fmt.Errorf("acmetest: ledger: %w", err)
		}
		out.Certificates = append(out.Certificates, cert)
	}
	return out, nil
}

func (c *CA) orderStates(ctx context.Context, ids []string) ([]orderState, error) {
	body, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	answer, err := c.call(ctx, http.MethodPost, ordersPath, body)
	if err != nil {
		return nil, err
	}
	var states []orderState
	if err := json.NewDecoder(bytes.NewReader(answer.Body.Bytes())).Decode(&states); err != nil {
		return nil, err
	}
	if len(states) != len(ids) {
		return nil, errors.New("not as many states as orders")
	}
	return states, nil
}

func ledgerCertificate(der []byte, order string) (Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, err
	}
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	sum := sha256.Sum256(der)
	return Certificate{
		Serial:      hex.EncodeToString(cert.SerialNumber.Bytes()),
		Identifiers: names,
		SHA256:      hex.EncodeToString(sum[:]),
		Order:       order,
		DER:         der,
	}, nil
}
