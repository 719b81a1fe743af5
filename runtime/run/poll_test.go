package run_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// A poll asks: it changes nothing.
func TestPollChangesNothing(t *testing.T) {
	l := newLab(t, script(`
		ctx:poll("one", function() return world.thing { name = "a" }:make() end)`))
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Failed || len(l.world.made) != 0 || !strings.Contains(out.Error.Message, "called inside a poll") || out.Error.Place == nil || out.Error.Place.Line != 3 {
		t.Errorf("%+v, made %v", out.Error, l.world.made)
	}
}

// A poll with long pauses frees its process, and continues to its deadline in the next.
func TestPollSuspends(t *testing.T) {
	l := newLab(t, script(`ctx:poll("wait", { every = "1h", within = "150m" }, function() return world.thing { name = "a" }:there() end)
		ctx:step("one", function() return world.thing { name = "b" }:make() end)`))
	begun := l.clock.Now()
	for n := 1; n <= 3; n++ {
		out := l.must(l.process(t.Context()))
		until := begun.Add(min(time.Duration(n)*time.Hour, 150*time.Minute))
		if out.Status != journal.Waiting || out.Reason != "poll of wait: a is not there" || out.Until.Sub(until).Abs() > time.Minute || l.world.asks != n {
			t.Fatalf("%d: %+v after %d questions, want until %s", n, out, l.world.asks, until)
		}
		h := l.history()
		if s := h.Steps[0]; s.Attempt != n || s.Deadline.Sub(begun.Add(150*time.Minute)).Abs() > time.Minute || s.Error == nil || s.Error.Message != "a is not there" {
			t.Fatalf("%d: %+v", n, s)
		}
		if h.Run.Failures > 0 || !h.Run.FailingSince.IsZero() {
			t.Errorf("asking counts as failing: %+v", h.Run)
		}
		l.clock.offset += out.Until.Sub(l.clock.Now())
	}
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Failed || out.Error.Kind != problem.Timeout || !strings.Contains(out.Error.Message, "a is not there") || l.world.asks != 4 {
		t.Errorf("%+v after %d questions", out.Error, l.world.asks)
	}
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 0)
	said := 0
	for _, line := range logs {
		if line.Message == "not yet" {
			said++
		}
	}
	if err != nil || said != 1 {
		t.Errorf("%d lines say that it is not yet so, %v", said, err)
	}
}

// "Not yet" is journaled when its reason changes.
func TestPollSaysWhatChanges(t *testing.T) {
	l := newLab(t, script(`ctx:poll("wait", { within = "5m", every = "10s" }, function()
		return world.thing { name = "a" }:there()
	end)`))
	l.world.reasons = []string{"x", "x", "x", "y", "y", "x", ""}
	l.must(l.process(t.Context()))
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 0)
	var said []string
	for _, line := range logs {
		if line.Message == "not yet" {
			said = append(said, string(line.Fields))
		}
	}
	if err != nil || strings.Join(said, " ") != `{"reason":"x"} {"reason":"y"} {"reason":"x"}` {
		t.Errorf("%v, %v", said, err)
	}
}

// Another side may ask to be left alone for a day, and not past give_up.
func TestRetryAfterIsBounded(t *testing.T) {
	for _, tc := range []struct {
		giveUp string
		most   time.Duration
	}{{`"7d"`, 24 * time.Hour}, {`"2h"`, 2 * time.Hour}} {
		l := newLab(t, strings.Replace(script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`), "run =", "give_up = "+tc.giveUp+", run =", 1))
		begun := l.clock.Now()
		for range 20 {
			l.world.fail["a"] = &problem.Error{Kind: problem.RateLimited, Message: "slowly", RetryAfter: l.clock.Now().AddDate(7000, 0, 0)}
			out := l.must(l.process(t.Context()))
			if out.Status == journal.Failed {
				break
			}
			if wait := out.Until.Sub(l.clock.Now()); wait > tc.most {
				t.Fatalf("give_up %s: waits %s", tc.giveUp, wait)
			}
			l.clock.offset += out.Until.Sub(l.clock.Now())
		}
		if h := l.history(); h.Run.Status != journal.Failed || l.clock.Now().Sub(begun) > 8*24*time.Hour {
			t.Errorf("give_up %s: %s after %s", tc.giveUp, h.Run.Status, l.clock.Now().Sub(begun))
		}
	}
}

// So it may for a clean-up.
func TestUndosRetryAfterIsBounded(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	l.world.undone = func(string) error {
		return &problem.Error{Kind: problem.RateLimited, Message: "slowly", RetryAfter: l.clock.Now().AddDate(7000, 0, 0)}
	}
	l.must(l.process(t.Context()))
	undos, err := l.journal.Undos(t.Context(), journal.UndoPending)
	if err != nil || len(undos) != 1 || undos[0].NextAt.Sub(l.clock.Now()) > 24*time.Hour {
		t.Errorf("%+v, %v", undos, err)
	}
}

// began is a module that waits for d from the begin of the poll in which it is asked.
type began struct {
	d       time.Duration
	asks    int
	dies    int // at which question its process is killed
	outside time.Time
}

func (b *began) module() *bind.Module {
	ask := func(c *bind.Call, _, _ *none) (bind.Verdict, error) {
		if b.asks++; b.asks == b.dies {
			runtime.Goexit()
		}
		return bind.Verdict{OK: c.Clock.Now().Sub(c.PollBegan) >= b.d, Reason: "too early"}, nil
	}
	step := func(c *bind.Call, _, _ *none) (bool, error) {
		b.outside = c.PollBegan
		return true, nil
	}
	return &bind.Module{Name: "began", Doc: "Waits.", Types: []*bind.Type{bind.Handle[none](
		"began.Wait", 1, "A wait.",
		&bind.Func{Name: "over", Doc: "asks", Returns: "whether it is over", Example: "x", Impl: bind.Read(ask)},
		&bind.Func{Name: "step", Doc: "asks", Returns: "true", Example: "x", Impl: bind.Read(step)},
	)}, Functions: []*bind.Func{{Name: "wait", Doc: "names it", Returns: "it", Example: "x", Impl: bind.Pure(func(n *none) (*none, error) { return n, nil })}}}
}

// A wait that is counted from the begin of its poll is as long as it was meant to be: a
// process that is killed in it, or freed between two questions, does not begin it anew.
func TestPollBeganOutlivesItsProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		every string
		dies  int
		back  time.Duration // by how much the clock is set back after the first process
		most  time.Duration // that it takes
	}{
		"killed":               {"10s", 12, 0, 4 * time.Minute},
		"killed at the begin":  {"10s", 1, 0, 4 * time.Minute},
		"killed, and set back": {"10s", 12, time.Hour, 5 * time.Minute}, // the journal's last record is of the poll's begin
		"freed":                {"2m", 0, 0, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			b := &began{d: 3 * time.Minute, dies: tc.dies, outside: time.Unix(1, 0)}
			l := newLab(t, script(`local w = began.wait()
				ctx:step("one", function() return w:step() end)
				ctx:poll("wait", { within = "10m", every = "`+tc.every+`" }, function() return w:over() end)`))
			l.modules = []*bind.Module{b.module()}
			begun := l.clock.Now()
			for n := 0; ; n++ {
				out, err := l.process(t.Context())
				if err != nil || n > 5 {
					t.Fatalf("%+v, %v", out, err)
				}
				if out != nil && out.Status != journal.Waiting {
					if out.Status != journal.Done {
						t.Fatalf("%+v", out.Error)
					}
					break
				}
				if n == 0 {
					l.clock.set(-tc.back)
				}
				if out != nil {
					l.clock.advance(max(out.Until.Sub(l.clock.Now()), 0))
				}
			}
			if took := l.clock.Since(begun); took < b.d || took > tc.most {
				t.Errorf("it took %s to wait for %s", took, b.d)
			}
			if !b.outside.IsZero() {
				t.Errorf("outside of a poll: %s", b.outside)
			}
		})
	}
}
