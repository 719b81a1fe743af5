package schedule

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
)

// setClock is a clock that can be set; its timers do not notice, as a machine's
// do not.
type setClock struct {
	clockwork.Clock
	ahead atomic.Int64
}

func (c *setClock) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.ahead.Load())) }

func (c *setClock) set(to time.Time) { c.ahead.Add(int64(to.Sub(c.Now()))) }

type firing struct {
	name string
	at   time.Time
	why  Reason
}

// world is a scheduler with a clock that can be set, in a synctest bubble.
type world struct {
	*Scheduler
	t      *testing.T
	clock  *setClock
	glance time.Duration // to save work where the clock is not set

	mu    sync.Mutex
	fired []firing
}

func begin(t *testing.T, now time.Time) *world {
	t.Helper()
	w := &world{t: t, clock: &setClock{Clock: clockwork.NewRealClock()}}
	w.clock.set(now)
	w.restart()
	return w
}

// restart is a new daemon, with a planner that remembers nothing.
func (w *world) restart() {
	w.Scheduler = New(Options{
		Clock: w.clock, Rand: rand.NewPCG(1, uint64(w.clock.Now().UnixNano())),
		Enqueue: func(_ context.Context, name string, why Reason) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fired = append(w.fired, firing{name, w.clock.Now().Round(0), why})
		},
	})
	if w.glance > 0 {
		w.alarm.glance = w.glance
	}
	if err := w.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	w.t.Helper()
	if err := w.Stop(); err != nil {
		w.t.Error(err)
	}
}

// pass lets d go by, and returns what was enqueued since the last call.
func (w *world) pass(d time.Duration) []firing {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.fired
	w.fired = nil
	return out
}

// want compares what was enqueued with lines such as "dfw due 03 03:17:00".
func (w *world) want(got []firing, want ...string) {
	w.t.Helper()
	var lines []string
	for _, f := range got {
		lines = append(lines, fmt.Sprintf("%s %s %s", f.name, f.why.Cause, f.at.UTC().Format("02 15:04:05")))
	}
	if !slices.Equal(lines, want) {
		w.t.Errorf("got  %q\nwant %q", lines, want)
	}
}

func daily(t testing.TB) *Schedule {
	return parse(t, map[string]any{"cron": "17 3 * * *", "tz": "UTC"})
}

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func TestDueAndAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		w.Set(map[string]Entry{"dfw": {Schedule: daily(t)}, "manual": {}})
		if next := w.Next("dfw"); !next.Equal(time.Date(2026, 11, 4, 3, 17, 0, 0, time.UTC)) {
			t.Errorf("next is %s", next)
		}
		if !w.Next("manual").IsZero() || !w.Next("unknown").IsZero() {
			t.Error("without a schedule there is no next")
		}
		w.want(w.pass(48*time.Hour), "dfw due 04 03:17:00", "dfw due 05 03:17:00")

		w.SetNext("dfw", noon.Add(49*time.Hour+30*time.Second))
		w.SetNext("manual", noon.Add(49*time.Hour+30*time.Second))
		w.SetNext("manual", noon.Add(50*time.Hour)) // takes its place
		w.SetNext("manual", noon)                   // has passed
		w.SetNext("unknown", noon.Add(50*time.Hour))
		w.want(w.pass(24*time.Hour), "dfw asked for 05 13:00:30", "manual asked for 05 14:00:00", "dfw due 06 03:17:00")

		w.SetNext("manual", noon.Add(73*time.Hour))
		w.SetNext("manual", time.Time{})
		w.want(w.pass(12 * time.Hour))
	})
}

// What is due and asked for at the same moment is one run.
func TestDueAndAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		w.Set(map[string]Entry{"dfw": {Schedule: daily(t), At: time.Date(2026, 11, 4, 3, 17, 0, 0, time.UTC)}})
		w.want(w.pass(48*time.Hour), "dfw asked for 04 03:17:00", "dfw due 05 03:17:00")
	})
}

func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		minutely := parse(t, "* * * * *")
		sixHours := parse(t, map[string]any{"every": "6h"})
		days := func(n int) time.Time { return noon.AddDate(0, 0, -n) }
		w.Set(map[string]Entry{
			"missed":    {Schedule: daily(t), LastRun: days(3)},
			"ran":       {Schedule: daily(t), LastRun: noon.Add(-8 * time.Hour)},
			"never":     {Schedule: daily(t)},
			"interval":  {Schedule: sixHours, LastRun: days(3)},
			"asked":     {Schedule: daily(t), LastRun: noon.Add(-8 * time.Hour), At: noon.Add(-time.Hour)},
			"asked, no": {LastRun: days(1), At: noon.Add(-time.Hour)},
			"answered":  {LastRun: noon.Add(-time.Hour), At: noon.Add(-time.Hour)},
			"both":      {Schedule: daily(t), LastRun: days(3), At: noon.Add(-time.Hour)},
			"paused":    {Schedule: daily(t), LastRun: days(3), Paused: true},
			"future":    {Schedule: daily(t), LastRun: noon.AddDate(1, 0, 0)},
		})
		counts, spread := map[string]int{}, map[time.Time]bool{}
		for _, f := range w.pass(2 * time.Minute) {
			if f.why.Cause != CaughtUp || f.at.Sub(noon) > time.Minute {
				t.Errorf("%s: %s at %s", f.name, f.why.Cause, f.at)
			}
			counts[f.name]++
			spread[f.at] = true
		}
		want := map[string]int{"missed": 1, "interval": 1, "asked": 1, "asked, no": 1, "both": 1}
		if fmt.Sprint(counts) != fmt.Sprint(want) {
			t.Errorf("caught up %v, want %v", counts, want)
		}
		if len(spread) < 4 {
			t.Errorf("all at the same moment: %v", spread)
		}
		for _, f := range w.pass(24 * time.Hour) {
			counts[f.name]++
		}
		want = map[string]int{"missed": 2, "interval": 5, "asked": 2, "asked, no": 1, "both": 2, "ran": 1, "never": 1, "future": 1}
		if fmt.Sprint(counts) != fmt.Sprint(want) {
			t.Errorf("after a day %v, want %v", counts, want)
		}

		// A minutely one that was down for four minutes is caught up once too.
		w.Set(map[string]Entry{"minutely": {Schedule: minutely, LastRun: w.clock.Now().Add(-4 * time.Minute)}})
		got := w.pass(10 * time.Minute)
		if len(got) != 11 && len(got) != 10 || got[0].why.Cause != CaughtUp || got[1].why.Cause != Due {
			t.Errorf("minutely: %v", got)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		e := Entry{Schedule: daily(t), At: noon.Add(time.Hour)}
		w.Set(map[string]Entry{"dfw": e})
		e.Paused = true
		w.Set(map[string]Entry{"dfw": e})
		if !w.Next("dfw").IsZero() {
			t.Error("a paused one has no next")
		}
		w.want(w.pass(10 * 24 * time.Hour))
		e.Paused, e.LastRun = false, noon
		w.Set(map[string]Entry{"dfw": e})
		if got := w.pass(12 * time.Hour); len(got) != 1 || got[0].why.Cause != CaughtUp {
			t.Errorf("%v", got)
		}
		w.want(w.pass(12*time.Hour), "dfw due 14 03:17:00")
	})
}

// Only what changed is planned again.
func TestSetTouchesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		jitter := map[string]any{"cron": "17 3 * * *", "tz": "UTC", "jitter": "2h"}
		hourly := map[string]any{"every": "1h"}
		set := func(schedule any) {
			w.Set(map[string]Entry{
				"same": {Schedule: parse(t, jitter)}, "hourly": {Schedule: parse(t, hourly), LastRun: noon.Add(-30 * time.Minute)},
				"other": {Schedule: parse(t, schedule)},
			})
		}
		set(map[string]any{"cron": "17 4 * * *", "tz": "UTC"})
		same, hour := w.Next("same"), w.Next("hourly")
		if jitter := same.Sub(time.Date(2026, 11, 4, 3, 17, 0, 0, time.UTC)); jitter <= 0 || jitter > 2*time.Hour {
			t.Errorf("jitter is %s", jitter)
		}
		if !hour.Equal(noon.Add(30 * time.Minute)) {
			t.Errorf("an hour after its last run: %s", hour)
		}
		w.pass(10 * time.Minute)
		set(map[string]any{"cron": "17 6 * * *", "tz": "UTC"})
		if !w.Next("same").Equal(same) || !w.Next("hourly").Equal(hour) {
			t.Error("those that did not change changed")
		}
		if next := w.Next("other"); !next.Equal(time.Date(2026, 11, 4, 6, 17, 0, 0, time.UTC)) {
			t.Errorf("other: %s", next)
		}
		// A schedule that would have been due earlier is not caught up.
		w.pass(time.Hour)
		set(map[string]any{"cron": "15 12 * * *", "tz": "UTC"})
		if next := w.Next("other"); !next.Equal(noon.AddDate(0, 0, 1).Add(15 * time.Minute)) {
			t.Errorf("other: %s", next)
		}
		// What is gone is forgotten.
		w.Set(nil)
		w.want(w.pass(48 * time.Hour))
	})
}

// A run whose moment has come, and that waits for its jitter, is not lost by a new
// schedule.
func TestChangeKeepsWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		w.Set(map[string]Entry{"dfw": {Schedule: parse(t, map[string]any{"cron": "5 12 * * *", "tz": "UTC", "jitter": "5h"})}})
		due := w.Next("dfw")
		w.want(w.pass(6 * time.Minute))
		w.Set(map[string]Entry{"dfw": {Schedule: daily(t)}})
		if !w.Next("dfw").Equal(due) {
			t.Errorf("%s was lost for %s", due, w.Next("dfw"))
		}
		got := w.pass(24 * time.Hour)
		if len(got) != 2 || !got[0].at.Equal(due.Truncate(time.Millisecond)) && got[0].at.Sub(due) > time.Millisecond || got[1].at.Hour() != 3 {
			t.Errorf("%v", got)
		}
	})
}

// An interval that never ran begins somewhere in it, and then keeps to it.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		entries := map[string]Entry{}
		for i := range 100 {
			entries[strconv.Itoa(i)] = Entry{Schedule: parse(t, map[string]any{"every": "6h"})}
		}
		w.Set(entries)
		counts, quarters := map[string]int{}, map[time.Duration]int{}
		for _, f := range w.pass(24*time.Hour + time.Second) {
			counts[f.name]++
			quarters[f.at.Sub(noon)/(90*time.Minute)]++
		}
		for name, n := range counts {
			if n != 4 {
				t.Errorf("%s ran %d times in a day", name, n)
			}
		}
		if len(counts) != 100 || quarters[0] > 50 || quarters[1] < 5 {
			t.Errorf("%d ran; in the quarters %v", len(counts), quarters)
		}
	})
}

// mixed are playbooks of all kinds, with the schedules that many have.
func mixed(t testing.TB, n int) map[string]*Schedule {
	t.Helper()
	var p Parser
	out := map[string]*Schedule{}
	kinds := []any{
		map[string]any{"cron": "17 3 * * *", "tz": "America/Chicago", "jitter": "30m"},
		map[string]any{"cron": "30 2 * * *", "tz": "Europe/Berlin"},
		map[string]any{"cron": "30 1,13 * * 1-5", "tz": "America/Chicago"},
		map[string]any{"cron": "0 */6 * * *", "tz": "Australia/Lord_Howe", "jitter": "2h"},
		map[string]any{"cron": "45 * * * sun", "tz": "Asia/Kathmandu"},
		map[string]any{"cron": "0 0 1,15 * *", "tz": "UTC"},
		map[string]any{"every": "36h", "jitter": "1h"},
	}
	for i := range n {
		s, err := p.Parse(kinds[i%len(kinds)])
		if err != nil {
			t.Fatal(err)
		}
		out[fmt.Sprintf("playbook-%d", i)] = s
	}
	return out
}

// A year: each moment that a schedule names is enqueued once, by its jitter later,
// though the daemon restarts and scripts are loaded again now and then.
func TestYear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		w.stop()
		w.glance = time.Hour
		w.restart()
		schedules := mixed(t, 21)
		last := map[string]time.Time{}
		set := func() {
			entries := map[string]Entry{}
			for name, s := range schedules {
				entries[name] = Entry{Schedule: s, LastRun: last[name]}
			}
			w.Set(entries)
		}
		set()
		slots := map[string]map[time.Time]int{}
		for week := range 53 {
			for _, f := range w.pass(7 * 24 * time.Hour) {
				if late := f.at.Sub(f.why.Slot); f.why.Cause == Due && (late < 0 || late > schedules[f.name].Jitter()+time.Second) {
					t.Errorf("%s at %s for %s", f.name, f.at, f.why.Slot)
				}
				if slots[f.name] == nil {
					slots[f.name] = map[time.Time]int{}
				}
				slots[f.name][f.why.Slot.UTC()]++
				last[f.name] = f.at
			}
			if week%10 == 9 {
				w.stop()
				w.restart()
			}
			set()
		}
		w.stop()
		for name, s := range schedules {
			if s.cron == nil {
				if n := len(slots[name]); n < 53*7*24/40 || n > 53*7*24/35 {
					t.Errorf("%s ran %d times", name, n)
				}
				continue
			}
			n := 0
			for at := s.Next(noon); at.Before(noon.AddDate(0, 0, 53*7).Add(-3 * time.Hour)); at = s.Next(at) {
				if slots[name][at.UTC()] != 1 {
					t.Errorf("%s ran %d times for %s", name, slots[name][at.UTC()], at)
				}
				n++
			}
			if got := len(slots[name]); got < n || got > n+1 {
				t.Errorf("%s ran for %d moments of %d", name, got, n)
			}
		}
	})
}

// The clock jumps by a year and back: nothing storms, nothing stops.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour, 20 * time.Hour, -20 * time.Hour, 10 * time.Minute, -10 * time.Minute} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t, noon)
				defer w.stop()
				schedules := mixed(t, 70)
				entries := map[string]Entry{}
				for name, s := range schedules {
					entries[name] = Entry{Schedule: s}
				}
				w.Set(entries)
				seen := map[string]int{}
				note := func(got []firing) map[string]int {
					counts := map[string]int{}
					for _, f := range got {
						counts[f.name]++
						seen[fmt.Sprint(f.name, f.why.Slot.UTC())]++
					}
					return counts
				}
				note(w.pass(3 * 24 * time.Hour))
				for _, ahead := range []time.Duration{jump, -jump} {
					w.clock.set(w.clock.Now().Add(ahead))
					for name, n := range note(w.pass(3 * time.Minute)) {
						if n > 1 {
							t.Errorf("%s ran %d times at once after %s", name, n, ahead)
						}
					}
					// All run on: for a day back by 20 hours those that ran already wait.
					counts := note(w.pass(3 * 24 * time.Hour))
					for name, s := range schedules {
						if (s.cron == nil || s.cron.anyDay && s.cron.anyWeekday) && counts[name] == 0 {
							t.Errorf("%s stopped after %s, next is %s", name, ahead, w.Next(name))
						}
						if s.cron != nil && s.text == "0 */6 * * * Australia/Lord_Howe, jitter 2h" && counts[name] > 13 {
							t.Errorf("%s ran %d times in three days after %s", name, counts[name], ahead)
						}
					}
				}
				for what, n := range seen {
					if n > 1 && jump.Abs() < 24*time.Hour {
						t.Errorf("%s ran %d times", what, n)
					}
				}
			})
		})
	}
}

// A machine that slept for a night, whose timers slept too, catches up once.
func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, noon)
		defer w.stop()
		w.Set(map[string]Entry{"dfw": {Schedule: daily(t)}, "hourly": {Schedule: parse(t, map[string]any{"cron": "0 * * * *", "tz": "UTC"})}})
		w.pass(time.Second)
		w.clock.set(noon.AddDate(0, 0, 3).Add(30 * time.Minute))
		got := w.pass(5 * time.Minute)
		if len(got) != 2 || got[0].why.Cause != CaughtUp || got[1].why.Cause != CaughtUp || got[0].name == got[1].name {
			t.Errorf("%v", got)
		}
		w.want(w.pass(30*time.Minute), "hourly due 06 13:00:00")
	})
}

// Stop waits for Enqueue, and nothing is enqueued after it.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		s := New(Options{Enqueue: func(ctx context.Context, _ string, _ Reason) {
			<-ctx.Done()
			ended.Store(true)
		}})
		s.Set(map[string]Entry{"a": {At: time.Now().Add(time.Minute)}, "b": {At: time.Now().Add(time.Minute)}})
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		if s.Start(context.Background()) == nil {
			t.Error("it starts twice")
		}
		<-time.After(2 * time.Minute)
		s.SetNext("c", time.Now().Add(time.Minute)) // it holds no lock while it enqueues
		if err := s.Stop(); err != nil || !ended.Load() {
			t.Errorf("%v, ended %v", err, ended.Load())
		}
		s.SetNext("b", time.Now().Add(time.Minute))
		if s.Stop() != nil || s.Start(context.Background()) == nil {
			t.Error("it ends once")
		}
		if err := New(Options{}).Stop(); err != nil {
			t.Error(err)
		}
	})
}

// Many goroutines change it while it enqueues, which changes it too.
func TestConcurrency(t *testing.T) {
	var s *Scheduler
	var fired atomic.Int64
	s = New(Options{Spread: -1, Enqueue: func(_ context.Context, name string, _ Reason) {
		fired.Add(1)
		s.SetNext(name, time.Now().Add(time.Millisecond))
	}})
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	entries := map[string]Entry{}
	for name, schedule := range mixed(t, 50) {
		entries[name] = Entry{Schedule: schedule, LastRun: time.Now().AddDate(-1, 0, 0)}
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				s.Set(entries)
				s.Next("playbook-1")
				s.SetNext("playbook-2", time.Now().Add(time.Millisecond))
			}
		})
	}
	all.Wait()
	for fired.Load() < 500 {
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	n := fired.Load()
	timer := time.NewTimer(20 * time.Millisecond)
	<-timer.C
	if fired.Load() != n {
		t.Error("it goes on after Stop")
	}
}
