package matrix

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/modules/faults"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// cases returns what is to be played, call by call: three cases of each call, such
// that neighbours have others and each mishap comes once and three times; if MOONSEAL_TEST is
// full, all of them.
func cases() (out []fault) {
	scripts, all := reached(), os.Getenv("MOONSEAL_TEST") == "full"
	for c, call := range slices.Sorted(maps.Keys(scripts)) {
		for m, mishap := range mishaps(call) {
			for i, times := range []int{1, 3} {
				f := fault{call, mishap, times, scripts[call]}
				if all || (c+m+2*i)%4 == 0 {
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// sites is how many labs work at once: most of a renewal is waiting.
const sites = 8

// Each call that a renewal makes of a CA, a DNS provider, a DNS server or a node
// goes wrong in each way, once and three times in a row: the renewal ends well in
// the end, with nothing done twice and nothing left behind; each error on the way
// says what failed; and no wait is longer than it should be, nor shorter than the
// other side asked for. By default it is a quarter of the cases.
func TestFaults(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("matrix", func(t *testing.T) {
		var workers sync.WaitGroup
		todo := make(chan fault)
		for range sites {
			s := newSite(t)
			workers.Go(func() {
				for f := range todo {
					t.Run(f.name(), func(t *testing.T) { s.survives(t, f) })
				}
			})
		}
		for _, f := range cases() {
			todo <- f
		}
		close(todo)
		workers.Wait()
	})
	// Pebble leaves one goroutine behind for each start in this process; clients'
	// idle connections end a little after their servers.
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before+sites && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if got := runtime.NumGoroutine(); got > before+sites {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, got, stacks[:runtime.Stack(stacks, true)])
	}
}

// survives renews under one fault. Pebble reuses one authorization in a hundred although
// it is set not to, and then not all calls are made: such a case is played again.
func (s *site) survives(t *testing.T, f fault) {
	t.Helper()
	for range 5 {
		if s.play(t, f) {
			return
		}
	}
	t.Error("the call is never made")
}

// play returns false if the call was not made, because it need not be.
func (s *site) play(t *testing.T, f fault) bool {
	t.Helper()
	if s.accountURL == "" {
		r := s.renewal(t, dropIn{}, patient())
		if out := r.toTheEnd(t); out.Status != journal.Done {
			t.Fatalf("without a fault: %s: %v", out.Status, out.Error)
		}
		s.keepAccount(t, r.state)
	}
	s.reset(t)
	if f.script.email != "" {
		f.script.email = strings.NewReplacer("/", "-").Replace(f.name()) + "@automate.builders"
	}
	r := s.renewal(t, f.script, f.settings())
	id := s.fault(t, f.entry())
	out := r.toTheEnd(t)
	r.speaks(t, f)
	r.waits(t)
	hits := s.hits(id)
	if hits == 0 && !r.validated() {
		return false
	}
	if hits == 0 || hits < f.times && !f.mayStop() {
		t.Errorf("%d calls were hit", hits)
	}
	s.world.Faults().Clear()
	if out.Status != journal.Done {
		t.Fatalf("%s: %s: %v", out.Status, out.Reason, out.Error)
	}
	r.renewed(t, f)
	return true
}

// validated reports whether the run had to prove its names.
func (r *renewal) validated() bool {
	now := r.world.DNS.TXT().History
	return len(now) > len(r.ledger.TXT.History)
}

// speaks checks that each error of the run says what failed at what, and quotes the other
// side.
func (r *renewal) speaks(t *testing.T, f fault) {
	t.Helper()
	for _, e := range r.errors() {
		t.Logf("%s: %s (%s, work %q), hint: %s", e.Step, e, e.Kind, e.Work, e.Hint)
		if e.Call == "" || e.Target == "" || e.Message == "" || e.Step == "" {
			t.Errorf("the error says too little: %+v", e)
		}
		if f.call == "acme.new-nonce" {
			if f.mishap.kind == faults.Status && !strings.Contains(e.Message, "new-nonce") { // a HEAD has no body
				t.Errorf("the error does not name new-nonce: %v", e)
			}
		} else if f.mishap.words != "" && e.Kind != problem.Timeout && !strings.Contains(e.Server, f.mishap.words) {
			t.Errorf("the error does not quote %q: %v", f.mishap.words, e)
		}
	}
}

// errors returns the error of each attempt that failed.
func (r *renewal) errors() (out []*problem.Error) {
	for _, rec := range r.seen() {
		if failed, ok := rec.(journal.StepFailed); ok {
			out = append(out, failed.Error)
		}
	}
	return out
}

// waits checks that each wait is as long as the policy says, and as the other
// side asks.
func (r *renewal) waits(t *testing.T) {
	t.Helper()
	rounds := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute}
	round := 0
	for i, rec := range r.seen() {
		failed, ok := rec.(journal.StepFailed)
		if !ok || failed.Final {
			continue
		}
		wait, asked := failed.NextAt.Sub(failed.At), failed.Error.RetryAfter
		most := 24 * time.Second // between two attempts of a round
		if next, ok := r.seen()[i+1].(journal.RunWaiting); ok {
			if most = rounds[round]; next.For != "retry of "+failed.Error.Step {
				t.Errorf("it waits for %q", next.For)
			}
			round++
		}
		if until := asked.Sub(failed.At); until > most {
			most = until
		}
		if wait > most+time.Second {
			t.Errorf("it waits %s, and the policy says %s", wait, most)
		}
		if !asked.IsZero() && asked.Sub(failed.NextAt) > time.Millisecond {
			t.Errorf("it continues at %s, and was asked not to before %s", failed.NextAt, asked)
		}
		if f := failed.Error; f.Status == 429 && asked.IsZero() {
			t.Errorf("Retry-After was not read: %+v", f)
		}
	}
	r.continuesInTime(t)
}

// continuesInTime checks that no step begins before it may.
func (r *renewal) continuesInTime(t *testing.T) {
	t.Helper()
	next := map[int]time.Time{}
	for _, rec := range r.seen() {
		switch rec := rec.(type) {
		case journal.StepFailed:
			next[rec.Step] = rec.NextAt
		case journal.StepStarted:
			if rec.At.Before(next[rec.Step]) {
				t.Errorf("step %s begins %s too early", rec.Name, next[rec.Step].Sub(rec.At))
			}
		}
	}
}

// renewed checks that all that had to be done was done, and once.
func (r *renewal) renewed(t *testing.T, f fault) {
	t.Helper()
	l := r.look(t)
	most := 1
	for _, e := range r.errors() {
		if e.Call == "acme.Account:order" && e.Work == problem.Unknown && f.call == "acme.new-order" {
			most++ // the URL of an order whose answer was lost is unknown
		}
	}
	if n := len(l.Orders); n < 1 || n > most || len(l.Certificates) != 1 || len(l.CSRs) != 1 {
		t.Errorf("%d orders, %d certificates, %d signing requests", len(l.Orders), len(l.Certificates), len(l.CSRs))
	}
	uploads, restarts := map[string]int{}, map[string]int{}
	for _, u := range l.Uploads {
		if !u.Accepted {
			t.Errorf("refused: %+v", u)
		}
		uploads[u.Kind+" "+u.SHA256]++
	}
	for _, u := range l.Restarts {
		restarts[u.Service]++
	}
	if len(uploads) != 3 {
		t.Errorf("uploads: %v", uploads)
	}
	for what, n := range uploads {
		if n != 1 {
			t.Errorf("uploaded %d times: %s", n, what)
		}
	}
	for service, n := range restarts {
		// Whether a restart has started is not known if its first line was lost. Only
		// Tomcat shows it, by what it serves; the others may be restarted again.
		if n != 1 && (service == "Cisco Tomcat" || f.call != "cucm.restart" || f.mishap.kind != faults.Lost) {
			t.Errorf("%s was restarted %d times", service, n)
		}
	}
	if len(l.Certificates) == 1 {
		if want := l.Certificates[0].SHA256; l.Served[pub] != want || l.Installed[pub] != want {
			t.Errorf("issued %s, installed %s, served %s", want, l.Installed[pub], l.Served[pub])
		}
	}
	if left := r.leftOver(r.state); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	undos, err := r.journal.Undos(t.Context(), journal.UndoPending)
	if err != nil || len(undos) > 0 {
		t.Errorf("undos: %v, %v", undos, err)
	}
}
