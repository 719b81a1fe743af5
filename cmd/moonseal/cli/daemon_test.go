package cli

import (
	"os"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// daemonProcess is a moonseal serve.
type daemonProcess struct {
	*process

	api   *api.Client
	state string
}

// serve starts the daemon and waits until it is ready.
func (s *site) serve() *daemonProcess {
	s.t.Helper()
	cfg, err := config.Load(s.config(), os.Getenv)
	s.check(err)
	d := &daemonProcess{process: s.start("", "serve", "--config", s.config()), api: api.Dial(cfg.Listen.Socket), state: cfg.State}
	s.t.Cleanup(d.kill)
	s.until("the daemon answers", func() bool {
		if d.done.Err() != nil {
			s.t.Fatalf("the daemon ended with %d:\n%s", d.wait(), d.out.String())
		}
		_, err := d.api.Status(s.t.Context())
		return err == nil
	})
	return d
}

// until waits until it is so, looking again and again.
func (s *site) until(what string, so func() bool) {
	s.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-again.C:
		case <-late:
			s.t.Fatalf("it never happens: %s", what)
		}
	}
}

// is waits until the run has the status, and returns it.
func (d *daemonProcess) is(id string, want journal.Status) journal.Run {
	d.s.t.Helper()
	j, err := journal.OpenReadOnly(d.s.t.Context(), d.state)
	d.s.check(err)
	defer func() { d.s.check(j.Close()) }()
	var r journal.Run
	d.s.until(id+" is "+string(want), func() bool {
		r, err = j.Run(d.s.t.Context(), id)
		d.s.check(err)
		if !r.Ended.IsZero() && r.Status != want {
			d.s.t.Fatalf("run %s of %s is %s: %v", id, r.Playbook, r.Status, r.Error)
		}
		return r.Status == want
	})
	return r
}

func (d *daemonProcess) begin(playbook string) string {
	d.s.t.Helper()
	r, err := d.api.Run(d.s.t.Context(), api.RunRequest{Playbook: playbook, Force: true})
	d.s.check(err)
	return r.ID
}

// moonseal runs a command to its end.
func (s *site) moonseal(want int, args ...string) string {
	s.t.Helper()
	p := s.start("", append(args, "--config", s.config())...)
	if code := p.wait(); code != want {
		s.t.Fatalf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, p.out.String())
	}
	return p.out.String()
}
