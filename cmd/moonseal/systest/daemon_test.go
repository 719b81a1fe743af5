package systest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// daemon is a moonseal serve, and its socket.
type daemon struct {
	*process

	socket *http.Client
}

// serve starts the daemon and waits until it answers.
func (s *site) serve() *daemon {
	s.t.Helper()
	socket := filepath.Join(s.state(), "moonseal.sock")
	if listen, _ := s.settings()["listen"].(map[string]any); listen != nil {
		socket, _ = listen["socket"].(string)
	}
	d := &daemon{s.start("serve"), &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
	s.t.Cleanup(func() {
		d.kill()
		d.socket.CloseIdleConnections()
	})
	s.until("the daemon answers", func() bool {
		if d.done.Err() != nil {
			s.t.Fatalf("the daemon ended with %d:\n%s", d.wait(), d.out.String())
		}
		return d.call(http.MethodGet, "/status", nil, nil) == nil
	})
	return d
}

// call asks the daemon: see exchange.
func (d *daemon) call(method, path string, in, out any) error {
	return exchange(d.s.t.Context(), d.socket, method, "http://moonseal"+path, in, out)
}

// get returns an answer of the daemon, which must be one.
func get[T any](d *daemon, path string) (out T) {
	d.s.t.Helper()
	d.s.check(d.call(http.MethodGet, path, nil, &out))
	return out
}

// run is a run as the daemon's socket and the journal have it.
type run struct {
	ID, Playbook, Bundle, Status, Reason string
	Epoch                                int64
	Resumed, Ended                       time.Time
	Error                                json.RawMessage
}

// step is a step of a run.
type step struct {
	Name, State string
	Attempt     int
	Result      json.RawMessage
}

// The states of a step.
const (
	stepStarted = "started"
	stepDone    = "done"
)

// history is a run with all that it did.
type history struct {
	Run     run
	Steps   []step
	Effects []struct {
		Fn       string
		Marked   time.Time
		Progress json.RawMessage
	}
}

// begin makes a run of the playbook begin, due or not, and returns its id.
func (d *daemon) begin(playbook string) string {
	d.s.t.Helper()
	var begun struct{ ID string }
	d.s.check(d.call(http.MethodPost, "/run", map[string]any{"playbook": playbook, "force": true}, &begun))
	return begun.ID
}

// is waits until the run has the status.
func (d *daemon) is(id, want string) {
	d.s.t.Helper()
	j := d.s.journal()
	defer j.close()
	d.s.until(id+" is "+want, func() bool {
		r := j.run(id)
		if !r.Ended.IsZero() && r.Status != want {
			d.s.t.Fatalf("run %s of %s is %s: %s", id, r.Playbook, r.Status, r.Error)
		}
		return r.Status == want
	})
}

// stops waits for the end of the daemon, which must have the exit code.
func (d *daemon) stops(want int) {
	d.s.t.Helper()
	if code := d.wait(); code != want {
		d.s.t.Errorf("exit code %d, want %d:\n%s", code, want, d.out.String())
	}
}
