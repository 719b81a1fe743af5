package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"moonseal/runtime/alert"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// partly is an executor that knows of which config it is, and notices a job of
// another.
type partly struct {
	*fakeExecutor

	proxy string
}

func (p *partly) whole(job worker.Job) {
	if job.Network.Proxy == p.proxy {
		return
	}
	p.update(func() {
		p.errors = append(p.errors, fmt.Sprintf("a job of %q meets the executor of %q", job.Network.Proxy, p.proxy))
	})
}

func (p *partly) Load(ctx context.Context, job worker.Job) (*worker.Loaded, error) {
	p.whole(job)
	if job.Network.Proxy == "bad" {
		return nil, &problem.Error{Kind: problem.Internal, Message: "the process died"}
	}
	return p.fakeExecutor.Load(ctx, job)
}

func (p *partly) Resume(ctx context.Context, job worker.Job, id string) (*run.Outcome, error) {
	p.whole(job)
	return p.fakeExecutor.Resume(ctx, job, id)
}

// changeable is a house whose config is what the pointer has, and whose alerts go
// to the config's first URL.
func changeable(t *testing.T) (h *house, file *atomic.Pointer[config.Config], sent func(url string) int) {
	t.Helper()
	h, file = newHouse(t, noon), &atomic.Pointer[config.Config]{}
	var mu sync.Mutex
	counts := map[string]int{}
	h.makeParts = func(cfg *config.Config, j *journal.Journal, _ *control.Control, observe func(journal.Record)) (Parts, error) {
		if h.exec.journal == nil {
			h.exec.journal, h.exec.observe = j, observe
		}
		p := Parts{Executor: &partly{h.exec, cfg.Proxy}, Job: worker.Job{Blackouts: cfg.Blackouts}}
		p.Job.Network.Proxy = cfg.Proxy
		if len(cfg.Alerts.URLs) > 0 {
			p.Send = alert.Send(func(context.Context, string, string) error {
				mu.Lock()
				defer mu.Unlock()
				counts[cfg.Alerts.URLs[0]]++
				return nil
			})
		}
		if cfg.Proxy == "none" {
			return p, &problem.Error{Kind: problem.Usage, Target: "proxy", Message: "is none"}
		}
		return p, nil
	}
	file.Store(h.cfg)
	h.load = func() (*config.Config, error) {
		if cfg := file.Load(); cfg != nil {
			return cfg, nil
		}
		return nil, &problem.Error{Kind: problem.Usage, Target: "moonseal.yaml:3", Message: "unknown key"}
	}
	return h, file, func(url string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[url]
	}
}

func TestReloadAppliesTheConfig(t *testing.T) {
	t.Parallel()
	h, file, sent := changeable(t)
	h.cfg.Concurrency = 1
	h.script("a", script{})
	h.script("b", script{})
	h.file("broken.lua", "half a script")
	h.start()
	release := h.exec.hold("a")
	releaseB := h.exec.hold("b")
	defer releaseB()
	h.ask("a")
	h.exec.await(t, "a is worked on", func() bool { return len(h.exec.active) == 1 })
	h.ask("b")

	next := *h.cfg
	next.Concurrency, next.Proxy, next.Alerts.URLs = 2, "http://proxy", []string{"TEAMS"}
	next.State, next.Listen.Group = "/elsewhere", "staff"
	next.Blackouts = []string{"2026-12-20..2027-01-06"}
	file.Store(&next)
	reply, err := h.daemon.Reload(t.Context())
	h.check(err)
	if want := []string{"alerts.urls", "blackouts", "concurrency", "proxy"}; !slices.Equal(reply.Config, want) {
		t.Errorf("changed %v, want %v", reply.Config, want)
	}
	if want := []string{"listen.group", "state"}; !slices.Equal(reply.Restart, want) {
		t.Errorf("needs a restart: %v, want %v", reply.Restart, want)
	}
	if now := h.daemon.settings.config(); now.State != h.cfg.State || now.Listen != h.cfg.Listen || now.Proxy != next.Proxy {
		t.Errorf("the config is %+v", now)
	}
	h.exec.await(t, "both are worked on at once", func() bool { return len(h.exec.active) == 2 })
	release()
	releaseB()
	h.idle()
	h.drifts(0, func() bool { return sent("TEAMS") == 1 }) // a trouble from before there was a service
	h.sound()
}

// A config that cannot be read, whose parts cannot be made, or with which no
// script loads leaves all as it was.
func TestBadConfigChangesNothing(t *testing.T) {
	t.Parallel()
	h, file, _ := changeable(t)
	h.script("a", script{})
	h.start()
	before := h.daemon.settings.now()
	gone := *h.cfg
	gone.Scripts = filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		cfg   *config.Config
		proxy string
		says  string
	}{{nil, "", "moonseal.yaml:3: unknown key"}, {h.cfg, "none", "proxy: is none"}, {h.cfg, "bad", "the new config does not work, the old one stays in force: the process died"}, {&gone, "", "cannot be read"}} {
		file.Store(nil)
		if c.cfg != nil {
			next := *c.cfg
			next.Proxy, next.Concurrency = c.proxy, 100
			file.Store(&next)
		}
		_, err := h.daemon.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %s", err, c.says)
		}
		if h.daemon.settings.now() != before {
			t.Errorf("%s: something has changed", c.says)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.notified[len(h.notified)-2:]
	if !strings.HasPrefix(last[0], "RELOADING=1\nMONOTONIC_USEC=") || !strings.HasPrefix(last[1], "READY=1") {
		t.Errorf("the service manager received %q", last)
	}
}

// The scripts folder can change, and what blackouts make impossible is reported.
func TestReloadOfWhereScriptsAre(t *testing.T) {
	t.Parallel()
	h, file, _ := changeable(t)
	h.script("a", script{Window: "Sat 10:00-12:00"})
	h.start()
	next := *h.cfg
	next.Blackouts = []string{"Sat,Sun"}
	file.Store(&next)
	reply, err := h.daemon.Reload(t.Context())
	h.check(err)
	if len(reply.Problems) != 1 || !strings.Contains(reply.Problems[0].Error(), "never opens") {
		t.Errorf("problems: %v", reply.Problems)
	}
	moved := next
	moved.Scripts = filepath.Join(t.TempDir(), "other")
	h.check(os.MkdirAll(moved.Scripts, 0o700))
	h.check(os.WriteFile(filepath.Join(moved.Scripts, "b.lua"), []byte("{}"), 0o600))
	file.Store(&moved)
	reply, err = h.daemon.Reload(t.Context())
	h.check(err)
	if !slices.Equal(reply.Added, []string{"b"}) || !slices.Equal(reply.Removed, []string{"a"}) || len(reply.Problems) != 0 {
		t.Errorf("got %+v", reply)
	}
}

// A run that waits for its window looks again when the blackouts are others.
func TestReloadOfBlackoutsWakes(t *testing.T) {
	t.Parallel()
	h, file, _ := changeable(t)
	h.script("closed", script{Window: "Sat 10:00-12:00"}) // it is Tuesday
	h.script("waits", script{Does: "approve"})
	h.start()
	id, other := h.ask("closed"), h.ask("waits")
	h.exec.await(t, "both wait", func() bool { return len(h.exec.calls) == 2 })
	h.idle()
	next := *h.cfg
	next.Blackouts = []string{"2026-12-20..2027-01-06"}
	file.Store(&next)
	_, err := h.daemon.Reload(t.Context())
	h.check(err)
	h.exec.await(t, "it looks again", func() bool { return len(h.exec.calls) == 3 && h.exec.calls[2].run == id })
	h.idle()
	h.status(id, journal.Waiting)
	h.status(other, journal.Waiting)
	h.sound()
}

// While the config changes again and again, no run and no load meets a mixture.
func TestConfigIsNeverAMixture(t *testing.T) {
	t.Parallel()
	h, file, _ := changeable(t)
	const playbooks, changes = 8, 60
	for i := range playbooks {
		h.script(fmt.Sprintf("book%d", i), script{})
	}
	h.start()
	var asking sync.WaitGroup
	done := make(chan struct{})
	for i := range playbooks {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if id := h.ask(fmt.Sprintf("book%d", i)); id == "" {
					return
				}
			}
		})
	}
	for i := range changes {
		next := *h.cfg
		next.Proxy, next.Concurrency = fmt.Sprint("proxy", i), 1+i%7
		file.Store(&next)
		if i%3 == 0 {
			h.script("book0", script{Locks: []string{fmt.Sprint(i)}})
		}
		if _, err := h.daemon.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	asking.Wait()
	h.idle()
	h.sound()
	if n := len(h.runs()); n < playbooks {
		t.Errorf("only %d runs", n)
	}
}

// ask asks for a run and returns its id.
func (h *house) ask(name string) string {
	h.t.Helper()
	created, err := h.daemon.runs.begin(h.t.Context(), name, false, "")
	if err != nil && !errors.Is(err, context.Canceled) {
		h.t.Error(err)
	}
	return created.Run.ID
}
