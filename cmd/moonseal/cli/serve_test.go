package cli

import (
	"os"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// served is a moonseal serve.
type served struct {
	*process

	api   *api.Client
	state string
}

// serve starts the daemon and waits until it is ready.
func (w *world) serve() *served {
	w.t.Helper()
	cfg, err := config.Load(w.config(), os.Getenv)
	w.check(err)
	d := &served{process: w.start("", "serve", "--config", w.config()), api: api.Dial(cfg.Listen.Socket), state: cfg.State}
	w.t.Cleanup(d.kill)
	w.until("the daemon answers", func() bool {
		if d.done.Err() != nil {
			w.t.Fatalf("the daemon ended with %d:\n%s", d.wait(), d.out.String())
		}
		_, err := d.api.Status(w.t.Context())
		return err == nil
	})
	return d
}

// until waits until it is so, looking again and again.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-again.C:
		case <-late:
			w.t.Fatalf("it never happens: %s", what)
		}
	}
}

// is waits until the run has the status, and returns it.
func (d *served) is(id string, want journal.Status) journal.Run {
	d.w.t.Helper()
	j, err := journal.OpenReadOnly(d.w.t.Context(), d.state)
	d.w.check(err)
	defer func() { d.w.check(j.Close()) }()
	var r journal.Run
	d.w.until(id+" is "+string(want), func() bool {
		r, err = j.Run(d.w.t.Context(), id)
		d.w.check(err)
		if !r.Ended.IsZero() && r.Status != want {
			d.w.t.Fatalf("run %s of %s is %s: %v", id, r.Playbook, r.Status, r.Error)
		}
		return r.Status == want
	})
	return r
}

func (d *served) begin(playbook string) string {
	d.w.t.Helper()
	r, err := d.api.Run(d.w.t.Context(), api.RunRequest{Playbook: playbook, Force: true})
	d.w.check(err)
	return r.ID
}

// moonseal runs a command to its end.
func (w *world) moonseal(want int, args ...string) string {
	w.t.Helper()
	p := w.start("", append(args, "--config", w.config())...)
	if code := p.wait(); code != want {
		w.t.Fatalf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, p.out.String())
	}
	return p.out.String()
}
