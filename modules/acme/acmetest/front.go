package acmetest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"moonseal/modules/faults"
)

// directoryPath is where Pebble has its directory.
const directoryPath = "/dir"

// call is one ACME resource: all below path if that ends in a slash.
type call struct{ path, name string }

func calls() []call {
	return []call{
		{directoryPath, "acme.directory"},
		{"/nonce-plz", "acme.new-nonce"},
		{"/sign-me-up", "acme.new-account"},
		{"/my-account/", "acme.account"},
		{"/rollover-account-key", "acme.key-change"},
		{"/order-plz", "acme.new-order"},
		{"/my-order/", "acme.order"},
		{"/list-orderz/", "acme.orders"},
		{"/authZ/", "acme.authorization"},
		{"/chalZ/", "acme.challenge"},
		{"/finalize-order/", "acme.finalize"},
		{"/certZ/", "acme.certificate"},
		{"/draft-ietf-acme-ari-03/renewalInfo/", "acme.renewal-info"},
		{"/revoke-cert", "acme.revoke"},
	}
}

// Calls names all calls that a faults.Set can hit.
func Calls() []string {
	var names []string
	for _, c := range calls() {
		names = append(names, c.name)
	}
	return names
}

// callName returns a request's name for faults; "" for a path that is not one of ACME's.
func callName(r *http.Request) string {
	for _, c := range calls() {
		if r.URL.Path == c.path || strings.HasSuffix(c.path, "/") && strings.HasPrefix(r.URL.Path, c.path) {
			return c.name
		}
	}
	return ""
}

// withDirectories has the directory at further paths too.
func withDirectories(paths []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(paths, r.URL.Path) {
			r = r.Clone(r.Context())
			r.URL.Path = directoryPath
		}
		next.ServeHTTP(w, r)
	})
}

// relativeLinks answers with URLs without their origin if a header holds them.
func relativeLinks(origin string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&relative{ResponseWriter: w, origin: origin}, r)
	})
}

type relative struct {
	http.ResponseWriter
	origin string
}

// Unwrap lets an http.ResponseController through.
func (r *relative) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *relative) WriteHeader(code int) {
	for _, name := range []string{"Location", "Link"} {
		for i, v := range r.Header()[name] {
			r.Header()[name][i] = strings.ReplaceAll(v, r.origin+"/", "/")
		}
	}
	r.ResponseWriter.WriteHeader(code)
}

// front is the HTTPS server that clients see.
type front struct {
	server *http.Server
	cut    context.CancelFunc
	done   chan error // the end of the serving goroutine

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

func serveFront(ctx context.Context, l net.Listener, next http.Handler, conf *tls.Config, o Options) *front {
	ctx, cut := context.WithCancel(ctx)
	f := &front{cut: cut, done: make(chan error, 1)}
	f.server = &http.Server{
		Handler: withDirectories(o.DirectoryPaths, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !f.enter(r.Context()) {
				panic(http.ErrAbortHandler)
			}
			defer f.calls.Done()
			if callName(r) == "" {
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})),
		TLSConfig:         conf,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          o.logger(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func() { f.done <- f.server.ServeTLS(l, "", "") }()
	return f
}

// enter counts a call, unless the front is closed: Close waits for all it counted.
func (f *front) enter(ctx context.Context) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || ctx.Err() != nil {
		return false
	}
	f.calls.Add(1)
	return true
}

func (f *front) close() error {
	f.mu.Lock()
	again := f.closed
	f.closed = true
	f.mu.Unlock()
	if again {
		return nil
	}
	f.cut()
	err := f.server.Close()
	if served := <-f.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	f.calls.Wait()
	return err
}

// problemDoc is an ACME error (RFC 8555 section 6.7).
type problemDoc struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status"`
}

// answerFault answers a Status fault as a CA would, or with the fault's own body.
func (c *CA) answerFault(w http.ResponseWriter, r *http.Request, e *faults.StatusError) {
	h := w.Header()
	for k, v := range e.Header {
		h.Set(k, v)
	}
	if e.Body != "" {
		w.WriteHeader(e.Code)
		_, _ = io.WriteString(w, e.Body)
		return
	}
	if e.Code == http.StatusTooManyRequests && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	if r.Method == http.MethodPost && h.Get("Replay-Nonce") == "" {
		h.Set("Replay-Nonce", c.nonce(r.Context()))
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Code)
	_ = json.NewEncoder(w).Encode(problemFor(e.Code))
}

func problemFor(code int) problemDoc {
	doc := problemDoc{Status: code}
	kind := "malformed"
	switch {
	case code == http.StatusTooManyRequests:
		kind, doc.Detail = "rateLimited", "too many requests; retry after Retry-After"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		kind, doc.Detail = "unauthorized", "the account may not do this"
	case code == http.StatusConflict:
		kind, doc.Detail = "conflict", "another request is in progress"
	case code >= 500:
		kind, doc.Detail = "serverInternal", "the service is down for maintenance or had an internal error"
	default:
		doc.Detail = "the request is not acceptable"
	}
	doc.Type = "urn:ietf:params:acme:error:" + kind
	return doc
}
