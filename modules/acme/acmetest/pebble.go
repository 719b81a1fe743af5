package acmetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/acme"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// environ guards the process's environment while Pebble's constructors read it.
var environ sync.Mutex //nolint:gochecknoglobals // so is the environment

// ordersPath is ours beside Pebble's own management paths.
const ordersPath = "/acmetest/orders"

// The wait for a certificate whose order is being finalized: how long at most, and
// how often it is looked for. Pebble takes a fraction of a millisecond.
const (
	issueTime = time.Second
	issueTick = 100 * time.Microsecond
)

func startHere(o Options) (*backend, error) {
	h, err := newPebble(o)
	if err != nil {
		return nil, err
	}
	return &backend{handler: h, stop: func() error { return nil }}, nil
}

// newPebble returns a handler for ACME, Pebble's management and ordersPath.
func newPebble(o Options) (http.Handler, error) {
	logger, store := o.logger(), db.NewMemoryStore()
	for id, key := range o.EAB {
		// Pebble's own error holds the key.
		if store.AddExternalAccountKeyByID(id, key) != nil {
			return nil, fmt.Errorf("EAB: the key of %q is empty or not base64url without padding", id)
		}
	}
	profiles := make(map[string]ca.Profile, len(o.Profiles))
	for name, p := range o.Profiles {
		profiles[name] = ca.Profile{
			Description:       p.Description,
			PromoteCommonName: p.PromoteCommonName,
			ValidityPeriod:    uint64(max(0, p.Validity/time.Second)),
		}
	}
	issuer := ca.New(logger, store, "", "ecdsa", o.AlternateRoots, o.ChainLength, profiles)
	var front wfe.WebFrontEndImpl
	err := withEnv(o.env(), func() {
		validator := va.New(logger, 5002, 5001, false, o.DNSAddr, store)
		front = wfe.New(logger, store, validator, issuer, []string{"pebble.letsencrypt.org"}, o.Strict, o.RequireEAB, o.RetryAuthz, o.RetryOrder)
	})
	if err != nil {
		return nil, err
	}
	states := orderStates{store: store, turn: &sync.Mutex{}}
	mux := http.NewServeMux()
	mux.Handle("/", inTurn{states, front.Handler()})
	management := front.ManagementHandler()
	for _, path := range []string{"/roots/", "/intermediates/", "/cert-status-by-serial/", "/set-renewal-info/"} {
		mux.Handle(path, management)
	}
	mux.Handle(ordersPath, states)
	return mux, nil
}

// inTurn answers one request after another, and the next one after a finalization
// once the certificate is issued. Pebble locks its store, authorizations and orders
// one inside the other, not always in the same order, and some twice: an order that
// is placed while another is looked at, or looked at while it is issued, brings it
// to a standstill.
type inTurn struct {
	states orderStates
	next   http.Handler
}

// finalizePath is what Pebble's paths of finalizations begin with; an order's id follows.
const finalizePath = "/finalize-order/"

func (t inTurn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)) // a slow client holds up nothing
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	t.states.turn.Lock()
	defer t.states.turn.Unlock()
	t.next.ServeHTTP(w, r)
	if id, ok := strings.CutPrefix(r.URL.Path, finalizePath); ok {
		t.states.issued(context.WithoutCancel(r.Context()), id)
	}
}

// env returns the variables through which alone Pebble can be set.
func (o *Options) env() map[string]string {
	return map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1",
		"PEBBLE_VA_ALWAYS_VALID": strconv.FormatBool(o.AlwaysValid),
		"PEBBLE_WFE_NONCEREJECT": strconv.Itoa(o.NonceReject),
		"PEBBLE_AUTHZREUSE":      strconv.Itoa(o.AuthzReuse),
	}
}

// withEnv runs f under further environment variables and restores the old ones.
// Other goroutines see them too, for less than a millisecond.
func withEnv(vars map[string]string, f func()) error {
	environ.Lock()
	defer environ.Unlock()
	var errs []error
	restore := make([]func() error, 0, len(vars))
	for k, v := range vars {
		if old, ok := os.LookupEnv(k); ok {
			restore = append(restore, func() error { return os.Setenv(k, old) })
		} else {
			restore = append(restore, func() error { return os.Unsetenv(k) })
		}
		errs = append(errs, os.Setenv(k, v))
	}
	if errors.Join(errs...) == nil {
		f()
	}
	for _, r := range restore {
		errs = append(errs, r())
	}
	return errors.Join(errs...)
}

// orderStates answers a JSON list of order ids with a list of orderState.
type orderStates struct {
	store *db.MemoryStore
	turn  *sync.Mutex
}

type orderState struct {
	Status      string `json:"status"`
	Certificate []byte `json:"certificate,omitempty"` // DER, once there is one
}

func (s orderStates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ids []string
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&ids); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := make([]orderState, len(ids))
	s.turn.Lock()
	defer s.turn.Unlock()
	for i, id := range ids {
		out[i] = s.issued(r.Context(), id)
	}
	_ = json.NewEncoder(w).Encode(out)
}

// issued returns an order's state, and waits for a certificate that is being issued,
// so that what has been finalized is in the ledger though its client never asked
// again. The caller has the turn.
func (s orderStates) issued(ctx context.Context, id string) orderState {
	tick, limit := time.NewTicker(issueTick), time.NewTimer(issueTime)
	defer tick.Stop()
	defer limit.Stop()
	for {
		state := s.look(id)
		if state.Status != acme.StatusProcessing {
			return state
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return state
		case <-ctx.Done():
			return state
		}
	}
}

func (s orderStates) look(id string) orderState {
	order := s.store.GetOrderByID(id)
	if order == nil {
		return orderState{}
	}
	order.RLock()
	defer order.RUnlock()
	state := orderState{Status: order.Status}
	if order.CertificateObject != nil {
		state.Certificate = order.CertificateObject.DER
	}
	return state
}
