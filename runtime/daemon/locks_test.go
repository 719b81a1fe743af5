package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

var cluster = []string{"cluster"}

// waitsForHolder waits until the run waits for the lock, held by the holder's run.
func (h *house) waitsForHolder(id, lock, holder string) {
	h.t.Helper()
	want := fmt.Sprintf("lock %s, held by run %s of %s", lock, holder, h.run(holder).Playbook)
	h.exec.await(h.t, id+" waits for "+want, func() bool {
		r := h.run(id)
		return r.Status == journal.Waiting && r.WaitFor == want
	})
}

// running returns what status shows of the playbook's unfinished run.
func (h *house) running(playbook string) *api.Running {
	h.t.Helper()
	r := h.playbook(playbook).Running
	if r == nil {
		h.t.Fatalf("status shows no run of %s", playbook)
	}
	return r
}

func (h *house) playbook(name string) api.PlaybookStatus {
	h.t.Helper()
	s, err := h.daemon.Status(h.t.Context())
	h.check(err)
	i := slices.IndexFunc(s.Playbooks, func(p api.PlaybookStatus) bool { return p.Name == name })
	if i < 0 {
		h.t.Fatalf("status does not show %s", name)
	}
	return s.Playbooks[i]
}

// lockTrouble returns the trouble that a playbook waits for a lock for too long; "" if
// there is none.
func (h *house) lockTrouble(lock, playbook string) string {
	h.t.Helper()
	s, err := h.daemon.Status(h.t.Context())
	h.check(err)
	for _, trouble := range alert.Troubles(s, alert.Limits{}, h.clock.Now()) {
		if trouble.Key == "lock "+lock+" "+playbook {
			return trouble.Text + "; next: " + trouble.Next
		}
	}
	return ""
}

// held returns the locks that are held, as "lock run".
func (h *house) held() []string {
	h.t.Helper()
	locks, err := h.daemon.journal.Locks(h.t.Context())
	h.check(err)
	var out []string
	for _, l := range locks {
		out = append(out, l.Name+" "+l.Run)
	}
	return out
}

// resumed counts how often the run was resumed, and how often that changed the
// outside world.
func (h *house) resumed(id string) (calls, changes int) {
	h.exec.mu.Lock()
	defer h.exec.mu.Unlock()
	for _, c := range h.exec.calls {
		if c.run == id {
			calls++
			if c.changed {
				changes++
			}
		}
	}
	return calls, changes
}

// calledOnce checks that the run was resumed once and has no worker.
func (h *house) calledOnce(id string) {
	h.t.Helper()
	if n, _ := h.resumed(id); n != 1 {
		h.t.Errorf("run %s was resumed %d times, want 1", id, n)
	}
	for _, r := range h.daemon.queue.Running() {
		if r.Job.Run == id {
			h.t.Errorf("run %s has a worker", id)
		}
	}
}

// unlock releases the run's locks.
func (h *house) unlock(id string) {
	h.t.Helper()
	h.exec.update(func() {
		for lock, by := range h.exec.holds {
			if by == id {
				delete(h.exec.holds, lock)
			}
		}
	})
	names, err := h.daemon.Unlock(h.t.Context(), id, "alice", api.Decision{Reason: "looked at it"})
	h.check(err)
	if !slices.Equal(names, h.run(id).Locks) {
		h.t.Errorf("unlock releases %v, want %v", names, h.run(id).Locks)
	}
}

// A run that waits for approval before its first change holds nothing: a neighbour
// with the same lock renews as ever.
func TestApprovalHoldsNoLock(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("asks", script{Does: "approve", Locks: cluster})
	h.script("neighbour", script{Schedule: "0 13 * * *", Locks: cluster})
	h.start()
	asks := h.startRun("asks")
	h.status(asks, journal.Waiting)
	h.passes(8 * 24 * time.Hour)
	renewed := 0
	for _, r := range h.runs() {
		if r.Playbook == "neighbour" && r.Status == journal.Done {
			renewed++
		}
	}
	if renewed != 8 {
		t.Errorf("the neighbour renewed %d times, want 8", renewed)
	}
	if r := h.running("asks"); r.WaitsFor != "approval: go?" || r.Lock != nil || len(r.Locks) > 0 || len(h.held()) > 0 {
		t.Errorf("the run that waits for approval shows %+v; held: %v", r, h.held())
	}

	// Approved while the neighbour is in the middle of its change.
	release := h.exec.hold("neighbour")
	neighbour := h.startRun("neighbour")
	h.exec.await(t, "the neighbour has the lock", func() bool { return h.exec.holds["cluster"] == neighbour })
	h.check(failed(h.daemon.Approve(t.Context(), asks, "alice", api.Decision{})))
	h.waitsForHolder(asks, "cluster", neighbour)
	release()
	h.status(asks, journal.Done)
	h.sound()
}

// A run that is parked, or waits, after a disruptive change keeps its lock until a
// person releases it.
func TestLockIsKept(t *testing.T) {
	t.Parallel()
	for does, is := range map[string]journal.Status{"park": journal.Parked, "retry": journal.Waiting} {
		t.Run(does, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noon)
			h.cfg.LockPatience /= 8 // half an hour: a retry comes after one
			h.script("holder", script{Does: does, Locks: cluster})
			h.script("waiter", script{Locks: cluster})
			h.start()
			holder := h.startRun("holder")
			h.status(holder, is)
			taken := h.clock.Now()
			waiter := h.startRun("waiter")
			h.waitsForHolder(waiter, "cluster", holder)
			h.idle()
			h.clock.Advance(29 * time.Minute)
			h.settle()
			h.calledOnce(waiter)
			if r := h.running("holder"); !slices.Equal(r.Locks, cluster) || r.Lock != nil {
				t.Errorf("the holder shows %+v", r)
			}
			r := h.running("waiter")
			if r.Lock == nil || *r.Lock != (api.Lock{Name: "cluster", Run: holder, Playbook: "holder", Since: taken}) || len(r.Locks) > 0 {
				t.Errorf("the waiter shows lock %+v, locks %v", r.Lock, r.Locks)
			}
			if want := "lock cluster, held by run " + holder + " of holder"; r.WaitsFor != want {
				t.Errorf("the waiter waits for %q, want %q", r.WaitsFor, want)
			}
			if text := h.lockTrouble("cluster", "waiter"); text != "" {
				t.Errorf("too early: %s", text)
			}

			h.clock.Advance(2 * time.Minute)
			h.settle()
			text := h.lockTrouble("cluster", "waiter")
			for _, want := range []string{"waiter waits for lock cluster for 31m", "run " + holder + " of holder holds it", "moonseal unlock " + holder} {
				if !strings.Contains(text, want) {
					t.Errorf("the trouble is %q, want one with %q", text, want)
				}
			}
			h.calledOnce(waiter)
			h.unlock(holder)
			h.status(waiter, journal.Done)
			if text := h.lockTrouble("cluster", "waiter"); text != "" {
				t.Errorf("it is not over: %s", text)
			}
			if got := h.run(holder).Status; got != is || len(h.running("holder").Locks) > 0 {
				t.Errorf("the holder is %s, want %s, and holds %v", got, is, h.held())
			}
			_, err := h.daemon.Unlock(t.Context(), holder, "alice", api.Decision{})
			if kind(t, err, problem.Conflict, "it holds no lock"); !problem.HasCode(err, problem.HoldsNone) {
				t.Errorf("the code is %q", problem.From(err).Code)
			}
			h.sound()
		})
	}
}

// Before its next disruptive change a run that was unlocked takes its locks again, and
// waits for who has them now.
func TestUnlockedRunTakesItsLocksAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("holder", script{Does: "park", Locks: cluster})
	h.script("waiter", script{Locks: cluster})
	h.start()
	holder := h.startRun("holder")
	h.status(holder, journal.Parked)
	release := h.exec.hold("waiter")
	waiter := h.startRun("waiter")
	h.waitsForHolder(waiter, "cluster", holder)
	h.unlock(holder)
	h.exec.await(t, "the waiter has the lock", func() bool { return h.exec.holds["cluster"] == waiter })
	h.check(failed(h.daemon.Resume(t.Context(), holder, "alice", api.Decision{As: "done"})))
	h.waitsForHolder(holder, "cluster", waiter)
	if r := h.running("holder"); r.Lock == nil || r.Lock.Run != waiter {
		t.Errorf("the first holder shows %+v", r)
	}
	_, err := h.daemon.Unlock(t.Context(), waiter, "alice", api.Decision{})
	kind(t, err, problem.Conflict, "only a run that waits or is parked can be unlocked")
	release()
	h.status(waiter, journal.Done)
	h.status(holder, journal.Done)
	if held := h.held(); len(held) > 0 {
		t.Errorf("locks are left: %v", held)
	}
	h.sound()
}

// A run whose certificate ends soon, or whose last window before that is open or over,
// must not wait for lock_patience.
func TestLockBeforeTheCertificateEnds(t *testing.T) {
	t.Parallel()
	const window = "11:00-13:00 UTC" // it is noon
	for name, c := range map[string]struct {
		window   any
		blackout string
		ends     string
		after    time.Duration // from noon
		want     string        // "" for no warning
	}{
		"ends within lock_patience":          {ends: "3h", want: "and its certificate ends at 2026-11-03T15:00:00Z"},
		"ended":                              {ends: "1h", after: 2 * time.Hour, want: "and its certificate ends at 2026-11-03T13:00:00Z"},
		"ends later":                         {ends: "5h"},
		"last window is open":                {window: window, ends: "20h", want: "and its last window before its certificate ends closes at 2026-11-03T13:00:00Z"},
		"another window follows":             {window: window, ends: "30h"},
		"another window is blacked out":      {window: window, blackout: "Wed", ends: "30h", want: "and its last window before its certificate ends closes at"},
		"last window is over":                {window: window, ends: "20h", after: 90 * time.Minute, want: "and no window of it is left before its certificate ends at 2026-11-04T08:00:00Z"},
		"another window follows that closed": {window: window, ends: "30h", after: 90 * time.Minute},
		"patience is over":                   {window: window, ends: "300h", after: 5 * time.Hour, want: "for 5h0m"},
		"no certificate is known":            {window: window},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noon)
			if c.blackout != "" {
				h.cfg.Blackouts = []string{c.blackout}
			}
			h.script("holder", script{Does: "park", Locks: cluster})
			h.script("waiter", script{Locks: cluster, Window: c.window, Ends: c.ends})
			h.start()
			holder := h.startRun("holder")
			h.status(holder, journal.Parked)
			waiter := h.startRun("waiter")
			h.waitsForHolder(waiter, "cluster", holder)
			h.idle()
			h.clock.Advance(c.after)
			h.settle()
			lock := h.running("waiter").Lock
			if lock == nil || !strings.HasPrefix(lock.Warning, c.want) || c.want == "" && lock.Warning != "" {
				t.Errorf("got %+v, want the warning %q", lock, c.want)
			}
			if text := h.lockTrouble("cluster", "waiter"); !strings.Contains(text, c.want) || (c.want == "") != (text == "") {
				t.Errorf("the trouble is %q", text)
			}
		})
	}
}

// Runs take all of their locks at once: overlapping sets in any order cannot deadlock.
func TestOverlappingLocks(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	sets := [][]string{{"x", "y"}, {"y", "x"}, {"y", "z"}, {"z", "x"}}
	for i, locks := range sets {
		h.script(fmt.Sprint("book", i), script{Does: "retry", Locks: locks})
	}
	h.start()
	for range 3 {
		var ids []string
		for i := range sets {
			ids = append(ids, h.startRun(fmt.Sprint("book", i)))
		}
		h.drifts(24*time.Hour, func() bool {
			return !slices.ContainsFunc(ids, func(id string) bool { return h.run(id).Status != journal.Done })
		})
	}
	h.idle()
	if held := h.held(); len(held) > 0 {
		t.Errorf("locks are left: %v", held)
	}
	h.sound()
}

// What waits for a lock is woken in order of expiry, one run at a time.
func TestWaitersGoByExpiry(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("holder", script{Does: "park", Locks: cluster})
	days := []int{40, 20, 50, 10, 30}
	for i, n := range days {
		h.script(fmt.Sprint("book", i), script{Locks: cluster, Ends: fmt.Sprint(n*24, "h")})
	}
	h.start()
	for i := range days { // so that it is known what expires when
		h.status(h.startRun(fmt.Sprint("book", i)), journal.Done)
	}
	holder := h.startRun("holder")
	h.status(holder, journal.Parked)
	ids := make([]string, len(days))
	release := make([]func(), len(days))
	for i := range days {
		release[i] = h.exec.hold(fmt.Sprint("book", i))
		ids[i] = h.startRun(fmt.Sprint("book", i))
		h.waitsForHolder(ids[i], "cluster", holder)
	}
	h.idle()
	h.unlock(holder)
	waiting := slices.Clone(ids)
	for _, i := range []int{3, 1, 4, 0, 2} {
		h.exec.await(t, fmt.Sprintf("the one that expires in %d days has the lock", days[i]), func() bool { return h.exec.holds["cluster"] == ids[i] })
		waiting = slices.DeleteFunc(waiting, func(id string) bool { return id == ids[i] })
		for _, id := range waiting {
			h.calledOnce(id)
		}
		release[i]()
		h.exec.await(t, ids[i]+" is done", func() bool { return h.run(ids[i]).Status == journal.Done })
	}
	h.idle()
	h.sound()
}

// A run that waits for two locks, of which one is held for days, does not hold up those
// that need the other.
func TestLockThatAnotherWaitsFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("parks", script{Does: "park", Locks: []string{"a"}})
	h.script("retries", script{Does: "retry", Locks: []string{"b"}})
	h.script("both", script{Locks: []string{"a", "b"}})
	h.script("one", script{Locks: []string{"b"}})
	h.start()
	parks, retries := h.startRun("parks"), h.startRun("retries")
	h.status(parks, journal.Parked)
	h.exec.await(t, "retries holds b", func() bool { return h.exec.holds["b"] == retries })
	both := h.startRun("both")
	h.waitsForHolder(both, "a", parks)
	h.idle()
	h.clock.Advance(time.Minute)
	one := h.startRun("one")
	h.waitsForHolder(one, "b", retries)
	h.drifts(2*time.Hour, func() bool { return h.run(retries).Status == journal.Done })
	h.status(one, journal.Done)
	h.waitsForHolder(both, "a", parks)
	h.unlock(parks)
	h.status(both, journal.Done)
	h.sound()
}

// A daemon that comes back finds who holds and who waits as they were.
func TestLocksOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("parks", script{Does: "park", Locks: []string{"a"}})
	h.script("retries", script{Does: "retry", Locks: []string{"b"}})
	h.script("one", script{Locks: []string{"a"}})
	h.script("two", script{Locks: []string{"b"}})
	h.script("both", script{Locks: []string{"b", "a"}})
	h.start()
	ids := map[string]string{}
	for _, playbook := range []string{"parks", "retries"} {
		ids[playbook] = h.startRun(playbook)
		h.exec.await(t, playbook, func() bool { return slices.Contains(h.held(), h.run(ids[playbook]).Locks[0]+" "+ids[playbook]) })
	}
	h.idle()
	for _, c := range [][2]string{{"one", "parks"}, {"two", "retries"}, {"both", "parks"}} {
		playbook, holder := c[0], c[1]
		ids[playbook] = h.startRun(playbook)
		h.waitsForHolder(ids[playbook], h.run(ids[holder]).Locks[0], ids[holder])
	}
	h.idle()
	before, held, shown := h.runs(), h.held(), h.running("both")
	for range 2 {
		h.restart()
		h.settle()
		if now := h.runs(); !slices.EqualFunc(now, before, func(a, b journal.Run) bool {
			return a.ID == b.ID && a.Epoch == b.Epoch && a.Status == b.Status && a.WaitFor == b.WaitFor
		}) {
			t.Errorf("the runs are\n%+v, want\n%+v", now, before)
		}
		if now := h.held(); !slices.Equal(now, held) {
			t.Errorf("held: %v, want %v", now, held)
		}
		if now := h.running("both"); *now.Lock != *shown.Lock || now.WaitsFor != shown.WaitsFor {
			t.Errorf("it shows %+v, want %+v", now, shown)
		}
	}
	h.drifts(2*time.Hour, func() bool { return h.run(ids["two"]).Status == journal.Done })
	h.idle()
	if got := h.run(ids["both"]); got.Status != journal.Waiting {
		t.Errorf("the run that needs both locks is %s", got.Status)
	}
	h.unlock(ids["parks"])
	h.status(ids["one"], journal.Done)
	h.status(ids["both"], journal.Done)
	h.check(failed(h.daemon.Resume(t.Context(), ids["parks"], "alice", api.Decision{As: "done"})))
	h.status(ids["parks"], journal.Done)
	for playbook, id := range ids {
		if _, n := h.resumed(id); n != 1 {
			t.Errorf("%s changed something %d times", playbook, n)
		}
	}
	if n := len(h.runs()); n != len(ids) {
		t.Errorf("%d runs, want %d", n, len(ids))
	}
	h.sound()
}

// A lock's name is its tenant's, unless the config shares it.
func TestLocksOfTenants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shared        []string
		first, second string
		waits         string // the lock that the second waits for; "" for none
	}{
		"of two tenants":               {nil, "dfw/a", "iad/a", ""},
		"of two tenants, shared":       {cluster, "dfw/a", "iad/a", "cluster"},
		"of two tenants, other shared": {[]string{"cluster2"}, "dfw/a", "iad/a", ""},
		"of one tenant":                {nil, "dfw/a", "dfw/b", "dfw/cluster"},
		"of one tenant, shared":        {cluster, "dfw/a", "dfw/b", "cluster"},
		"of a tenant and of none":      {nil, "dfw/a", "a", ""},
		"the same, shared":             {cluster, "a", "dfw/a", "cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noon)
			h.cfg.SharedLocks = c.shared
			h.script(c.first, script{Does: "park", Locks: cluster})
			h.script(c.second, script{Locks: cluster})
			h.start()
			first := h.startRun(c.first)
			h.status(first, journal.Parked)
			second := h.startRun(c.second)
			if c.waits == "" {
				h.status(second, journal.Done)
				return
			}
			h.waitsForHolder(second, c.waits, first)
			h.check(failed(h.daemon.Resume(t.Context(), first, "alice", api.Decision{As: "done"})))
			h.status(first, journal.Done)
			h.status(second, journal.Done)
			h.sound()
		})
	}
}

// A run that waits for a lock ends at once when it is cancelled, and one that holds a
// lock releases it.
func TestCancelWithLocks(t *testing.T) {
	t.Parallel()
	for _, does := range []string{"", "park", "retry"} { // it works, is parked, waits
		t.Run("holder "+does, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noon)
			h.script("holder", script{Does: does, Locks: cluster})
			h.script("waiter", script{Locks: cluster})
			h.script("another", script{Locks: cluster})
			h.start()
			if does == "" {
				defer h.exec.hold("holder")()
			}
			holder := h.startRun("holder")
			h.exec.await(t, "the holder has the lock", func() bool { return h.exec.holds["cluster"] == holder })
			waiter, another := h.startRun("waiter"), h.startRun("another")
			h.waitsForHolder(waiter, "cluster", holder)
			h.waitsForHolder(another, "cluster", holder)
			h.check(failed(h.daemon.Cancel(t.Context(), waiter, "alice", api.Decision{})))
			h.exec.await(t, "the waiter is cancelled", func() bool { return h.run(waiter).Status == journal.Cancelled })
			if held := h.held(); !slices.Equal(held, []string{"cluster " + holder}) {
				t.Errorf("held: %v", held)
			}
			h.check(failed(h.daemon.Cancel(t.Context(), holder, "alice", api.Decision{})))
			h.status(holder, journal.Cancelled)
			h.status(another, journal.Done)
			h.sound()
		})
	}
}

// A tenant whose runs are long and many leaves the slot that becomes free to another
// tenant, and at most half of the slots stay its own while others wait.
func TestFairShares(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.cfg.Concurrency = 4
	release, ids := map[string]func(){}, map[string]string{}
	for i := range 8 {
		for _, tenant := range []string{"many", "few"} {
			name := fmt.Sprintf("%s/%d", tenant, i)
			h.script(name, script{})
			release[name] = h.exec.hold(name)
		}
	}
	h.start()
	begin := func(name string) { ids[name] = h.startRun(name) }
	works := func(names ...string) {
		t.Helper()
		h.exec.await(t, fmt.Sprint(names, " work"), func() bool {
			return !slices.ContainsFunc(names, func(name string) bool { return !h.exec.active["run "+ids[name]] })
		})
		if n := len(h.daemon.queue.Running()); n != 4 {
			t.Errorf("%d slots are taken, want 4", n)
		}
	}
	for i := range 8 {
		begin(fmt.Sprintf("many/%d", i))
	}
	works("many/0", "many/1", "many/2", "many/3")
	begin("few/0")
	release["many/0"]()
	works("few/0", "many/1", "many/2", "many/3")
	begin("few/1")
	begin("few/2")
	release["many/1"]()
	works("few/0", "few/1", "many/2", "many/3")
	release["few/0"]()
	works("few/1", "few/2", "many/2", "many/3") // half is taken by the many
	release["many/2"]()
	works("few/1", "few/2", "many/3", "many/4") // no other tenant waits
	for _, end := range release {
		end()
	}
	h.idle()
	for name, id := range ids {
		if got := h.run(id).Status; got != journal.Done {
			t.Errorf("%s is %s", name, got)
		}
	}
	h.sound()
}

// Who asks for a run that waits for a lock learns that it waits, and wakes it not.
func TestRunThatWaitsForALock(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("holder", script{Does: "park", Locks: cluster})
	h.script("waiter", script{Locks: cluster})
	h.start()
	holder := h.startRun("holder")
	h.status(holder, journal.Parked)
	waiter := h.startRun("waiter")
	h.waitsForHolder(waiter, "cluster", holder)
	h.idle()
	epoch := h.run(waiter).Epoch
	for range 3 {
		reply, err := h.daemon.Run(t.Context(), "alice", api.RunRequest{Playbook: "waiter", Force: true})
		h.check(err)
		if reply.ID != waiter || !reply.Resumed {
			t.Errorf("the reply is %+v", reply)
		}
		h.settle()
	}
	h.calledOnce(waiter)
	if now := h.run(waiter).Epoch; now != epoch {
		t.Errorf("the epoch is %d, want %d: nothing took it up", now, epoch)
	}

	type followed struct {
		run *journal.Run
		err error
	}
	end := make(chan followed, 1)
	go func() {
		r, err := h.daemon.Follow(t.Context(), waiter, func(journal.Record) error { return nil })
		end <- followed{r, err}
	}()
	var got *followed
	h.drifts(time.Hour, func() bool {
		select {
		case f := <-end:
			got = &f
		default:
		}
		return got != nil
	})
	h.check(got.err)
	if got.run.Status != journal.Waiting || !strings.HasPrefix(got.run.WaitFor, "lock cluster, held by run "+holder) {
		t.Errorf("who follows it learns of %+v", got.run)
	}
	h.calledOnce(waiter)
	h.check(failed(h.daemon.Resume(t.Context(), holder, "alice", api.Decision{As: "done"})))
	h.status(waiter, journal.Done)
	h.sound()
}
