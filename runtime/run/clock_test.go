package run_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

const year = 365 * 24 * time.Hour

// A wait that began while the clock was a year ahead is no longer than it was meant to be
// once the clock is right.
func TestWaitsFollowACorrectedClock(t *testing.T) {
	for name, c := range map[string]struct {
		body        string
		pause, last time.Duration // of one wait, and of all
		want        journal.Status
	}{
		"sleep":      {`ctx:sleep "10m"`, 10 * time.Minute, 10 * time.Minute, journal.Done},
		"poll":       {`ctx:poll("p", { every = "1h", within = "3h" }, function() return world.thing { name = "a" }:there() end)`, time.Hour, 3 * time.Hour, journal.Failed},
		"short poll": {`ctx:poll("p", { within = "10m" }, function() return world.thing { name = "a" }:there() end)`, 0, 10 * time.Minute, journal.Failed},
		"retry":      {`ctx:step("s", { retry = 1 }, function() return world.thing { name = "fails" }:there() end)`, 100 * time.Minute, 3 * time.Hour, journal.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, strings.Replace(script(c.body), "run =", `give_up = "1h", run =`, 1))
			l.clock.set(year)
			begun := l.clock.Now()
			for n := 0; ; n++ {
				l.world.fail["there fails"] = &problem.Error{Kind: problem.Unavailable, Message: "not now"}
				out := l.must(l.process(t.Context()))
				if n == 0 {
					l.clock.set(-year)
				}
				if out.Status != journal.Waiting {
					if took := l.clock.Since(begun); out.Status != c.want || took > c.last+time.Minute {
						t.Errorf("%s after %s, %v", out.Status, took, out.Error)
					}
					return
				}
				now := l.clock.Now()
				if wait := out.Until.Sub(now); n > 0 && wait > c.pause {
					t.Fatalf("it waits %s, for %s", wait, out.Reason)
				}
				if n == 0 && !l.history().Run.ClockSetBack(now) || n > 0 && l.history().Run.ClockSetBack(now) {
					t.Errorf("%d: the clock was set back: %v", n, l.history().Run.ClockSetBack(now))
				}
				if n > 0 {
					l.clock.advance(out.Until.Sub(now))
				}
			}
		})
	}
}

// A poll that waits in its process goes by durations, whatever the clock is set to.
func TestPollInOneProcess(t *testing.T) {
	for name, by := range map[string]time.Duration{"back": -5 * time.Minute, "ahead": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "b" }:make() end)
				ctx:poll("p", { within = "10m", every = "10s" }, function() return world.thing { name = "a" }:there() end)`))
			l.world.asked = func() {
				if l.world.asks == 40 {
					l.clock.set(by)
				}
			}
			out := l.must(l.process(t.Context()))
			if out.Status != journal.Failed || l.world.asks < 60 || l.world.asks > 62 {
				t.Errorf("%s after %d questions: %v", out.Status, l.world.asks, out.Error)
			}
		})
	}
}

// A virtual machine is resumed during a step, three hours later: that was no work. What
// the run waits for in its process is none either.
func TestWorkIsMeasuredByDurations(t *testing.T) {
	source := strings.Replace(script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:sleep "20s"
		ctx:step("two", function() return world.thing { name = "b" }:make() end)`), "run =", `timeout = "19s", run =`, 1)
	l := newLab(t, source)
	l.trace = func(at run.Point, _ string) {
		if at == run.AfterMark && l.clock.wrong == 0 {
			l.clock.set(3 * time.Hour)
		}
	}
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Errorf("%+v", out)
	}
	if worked := l.history().Run.Worked; worked > 15*time.Second {
		t.Errorf("worked %s", worked)
	}

	l = newLab(t, source)
	l.trace = func(at run.Point, _ string) {
		if at == run.AfterMark && l.clock.wrong == 0 {
			l.clock.set(3 * time.Hour)
		}
	}
	set := l.trace
	l.killAt(run.AfterStep, "one", 1)
	kill := l.trace
	l.trace = func(at run.Point, what string) { set(at, what); kill(at, what) }
	if out, err := l.process(t.Context()); out != nil || err != nil {
		t.Fatal(out, err)
	}
	l.trace = nil
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Errorf("killed: %+v", out)
	}
}

// The clock is set back by an hour while an undo is tried again: it is not left alone for
// that long, and not forgotten.
func TestUndoFollowsACorrectedClock(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	tries := 0
	l.world.undone = func(string) error {
		if tries++; tries == 1 {
			l.clock.set(-time.Hour)
			return &problem.Error{Kind: problem.Unavailable, Message: "not now"}
		}
		return nil
	}
	out := l.must(l.process(t.Context()))
	if h := l.history(); out.Status != journal.Done || tries != 2 || h.Undos[0].State != journal.UndoIsDone {
		t.Errorf("%+v after %d tries: %+v", out, tries, h.Undos)
	}
	for _, wait := range l.clock.waits {
		if wait > time.Minute {
			t.Errorf("it waited %s", wait)
		}
	}
}
