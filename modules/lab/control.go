package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"moonseal/modules/faults"
)

// maxControl bounds a request of the control API, in bytes.
const maxControl = 1 << 20

// control serves the control API.
type control struct {
	world  *World
	url    string
	server *http.Server
	cancel context.CancelFunc
	owned  sync.WaitGroup // the serving goroutine, and one for each connection
}

func serveControl(ctx context.Context, w *World) (*control, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &control{world: w, url: "http://" + l.Addr().String(), cancel: cancel}
	c.server = &http.Server{
		Handler: c.routes(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:    slog.NewLogLogger(w.opt.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		// A connection's goroutine runs its handlers: what waits for it waits for them.
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				c.owned.Add(1)
			case http.StateClosed, http.StateHijacked:
				c.owned.Done()
			}
		},
	}
	c.owned.Go(func() {
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			w.opt.Log.Error("the control API ended", "error", err)
		}
	})
	return c, nil
}

func (c *control) close() error {
	c.cancel()
	err := c.server.Close()
	c.owned.Wait()
	return err
}

// answer is what a handler returns: a value that becomes JSON, or an error.
type answer func(r *http.Request) (any, error)

func (c *control) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]answer{
		"GET /ledger":               func(r *http.Request) (any, error) { return c.world.Ledger(r.Context()) },
		"GET /calls":                func(*http.Request) (any, error) { return c.world.Calls(), nil },
		"POST /faults":              c.addFault,
		"GET /faults":               func(*http.Request) (any, error) { return c.world.faults.List(), nil },
		"DELETE /faults":            func(*http.Request) (any, error) { c.world.faults.Clear(); return struct{}{}, nil },
		"GET /faults/{id}":          c.getFault,
		"POST /faults/{id}/release": c.release,
		"GET /cucm/{node}":          c.getNode,
		"POST /cucm/{node}":         c.changeNode,
		"GET /dns":                  func(*http.Request) (any, error) { return c.world.dnsState(), nil },
		"POST /dns":                 c.changeDNS,
		"POST /acme":                c.changeACME,
	} {
		mux.HandleFunc(pattern, serve(do))
	}
	return mux
}

// refusal is an error with an HTTP status; others are 400.
type refusal struct {
	status int
	error
}

func notFound(format string, args ...any) error {
	return refusal{http.StatusNotFound, fmt.Errorf(format, args...)}
}

func serve(do answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxControl)
		status := http.StatusOK
		out, err := do(r)
		if err != nil {
			var refused refusal
			if status = http.StatusBadRequest; errors.As(err, &refused) {
				status = refused.status
			}
			out = map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // a client that is gone needs no answer
	}
}

// decode reads one JSON value and refuses unknown fields: a typing error in a
// test must not pass for a change.
func decode(from io.Reader, into any) error {
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("request body: more than one JSON value")
	}
	return nil
}

func (c *control) addFault(r *http.Request) (any, error) {
	var f faults.Fault
	if err := decode(r.Body, &f); err != nil {
		return nil, err
	}
	if err := c.world.checkCall(f.Call); err != nil {
		return nil, err
	}
	id, err := c.world.faults.Add(f)
	return map[string]int{"id": id}, err
}

func (c *control) fault(r *http.Request) (faults.Fault, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err == nil {
		for _, f := range c.world.faults.List() {
			if f.ID == id {
				return f, nil
			}
		}
	}
	return faults.Fault{}, notFound("no fault %s", r.PathValue("id"))
}

func (c *control) getFault(r *http.Request) (any, error) {
	f, err := c.fault(r)
	if err != nil {
		return nil, err
	}
	switch wait := r.URL.Query().Get("wait"); wait {
	case "":
		return f, nil
	case "held":
		if err := c.world.faults.WaitHeld(r.Context(), f.ID); err != nil {
			return nil, notFound("%w", err)
		}
		return c.fault(r)
	default:
		return nil, fmt.Errorf("wait=%s: must be held", wait)
	}
}

func (c *control) release(r *http.Request) (any, error) {
	f, err := c.fault(r)
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.world.faults.Release(f.ID)
}
