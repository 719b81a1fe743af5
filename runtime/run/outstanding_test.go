package run_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// slow is a module whose one call ends as the test says.
func slow(end func(*bind.Call) (bool, error), probe func() (bool, error), undone *int) *bind.Module {
	return &bind.Module{Name: "slow", Doc: "x", Functions: []*bind.Func{{
		Name: "thing", Doc: "x", Returns: "x", Example: "x", Table: true, Impl: bind.Pure(func(t *slowThing) (*slowThing, error) { return t, nil }),
	}}, Types: []*bind.Type{bind.Handle[slowThing]("slow.Thing", 1, "x", &bind.Func{
		Name: "change", Doc: "x", Returns: "true", Example: "x", Impl: bind.Effectful(bind.Effect[slowThing, none, any, bool]{
			Do: func(c *bind.Call, _ *slowThing, _ *none, _ any) (bool, error) {
				return end(c)
			},
			Probe: func(*bind.Call, *slowThing, *none, any) (bool, bool, error) {
				happened, err := probe()
				return true, happened, err
			},
			Undo: func(*bind.Call, *slowThing, *none, *bool) error { *undone++; return nil },
		}),
	})}}
}

type slowThing struct {
	Name string `lua:"name" doc:"its name"`
}

// A run whose time is used up lets the call under way finish, and parks if what became of
// a call is not known, or it is half done. A cancel ends the run all the same, and says
// what is left.
func TestTimeIsUsedUpInsideACall(t *testing.T) {
	lost := &problem.Error{Kind: problem.Unavailable, Message: "lost"}
	blind := func() (bool, error) { return false, lost }
	for _, tc := range []struct {
		name  string
		end   func(*bind.Call) (bool, error)
		probe func() (bool, error)
		want  journal.Status
		left  string
	}{
		{"it finishes", func(c *bind.Call) (bool, error) { return true, c.Context.Err() }, blind, journal.Failed, ""},
		{"found done", func(*bind.Call) (bool, error) { return false, lost }, func() (bool, error) { return true, nil }, journal.Failed, ""},
		{"cannot tell", func(*bind.Call) (bool, error) { return false, lost }, blind, journal.Parked, "slow.Thing:change may have happened"},
		{"half done", func(c *bind.Call) (bool, error) {
			return false, errorsOr(c.Progress("1 of 6"), &problem.Error{Kind: problem.Refused, Message: "no", Work: problem.NotDone})
		}, blind, journal.Parked, "half done: \"1 of 6\""},
		{"found half done", func(c *bind.Call) (bool, error) {
			return false, errorsOr(c.Progress("1 of 6"), lost)
		}, func() (bool, error) { return false, nil }, journal.Parked, "half done: \"1 of 6\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			undone := 0
			l := newLab(t, `return { timeout = "1h", run = function(ctx)
				ctx:step("one", function()
					pcall(function() slow.thing { name = "a" }:change() end)
					while true do end
				end)
			end }`)
			l.clock.manual = true
			end := func(c *bind.Call) (bool, error) {
				l.clock.due() // the time is used up now
				return tc.end(c)
			}
			l.modules = []*bind.Module{slow(end, tc.probe, &undone)}
			out := l.must(l.process(t.Context()))
			if out.Status != tc.want || !strings.Contains(out.Reason, tc.left) || (tc.want == journal.Failed) != (undone == 1) {
				t.Fatalf("%+v, %d undone", out, undone)
			}
			if tc.want == journal.Failed {
				return
			}
			l.mode = run.Cancel
			if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || !strings.Contains(strings.Join(out.Left, "; "), tc.left) || undone != 1 || len(l.history().Run.Left) != len(out.Left) {
				t.Errorf("cancelled: %+v, %d undone", out, undone)
			}
		})
	}
}

func errorsOr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// So does a cancel that comes while the call is under way. The call may finish first, for
// as long as a stop returns it; in a hurry it may not.
func TestCancelInsideACall(t *testing.T) {
	lost := &problem.Error{Kind: problem.Unavailable, Message: "lost"}
	blind := func() (bool, error) { return false, lost }
	cut := func(c *bind.Call) (bool, error) {
		<-c.Context.Done()
		return false, lost
	}
	for _, tc := range []struct {
		name  string
		grace time.Duration
		hurry bool
		end   func(*bind.Call) (bool, error)
		left  []string
	}{
		{"it finishes", time.Hour, false, func(c *bind.Call) (bool, error) { return true, c.Context.Err() }, nil},
		{"its answer is lost", time.Hour, false, func(*bind.Call) (bool, error) { return false, lost }, []string{"slow.Thing:change may have happened"}},
		{"the time is over", time.Millisecond, false, cut, []string{"slow.Thing:change may have happened"}},
		{"in a hurry", time.Hour, true, cut, []string{"slow.Thing:change may have happened"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			undone := 0
			ctx, cancel := context.WithCancelCause(t.Context())
			hurry, hasten := context.WithCancel(t.Context())
			defer hasten()
			l := newLab(t, script(`ctx:step("one", function() return slow.thing { name = "a" }:change() end) ctx:step("two", function() end)`))
			l.grace, l.hurry = tc.grace, hurry
			l.modules = []*bind.Module{slow(func(c *bind.Call) (bool, error) {
				cancel(run.ErrCancelled)
				if tc.hurry {
					hasten()
				}
				return tc.end(c)
			}, blind, &undone)}
			out := l.must(l.process(ctx))
			if out.Status != journal.Cancelled || !slices.Equal(out.Left, tc.left) || undone != 1 || len(l.history().Steps) != 1 {
				t.Errorf("%+v, %d undone", out, undone)
			}
			if got := l.history().Run.Left; !slices.Equal(got, tc.left) {
				t.Errorf("the journal has %q", got)
			}
		})
	}
}

// What a cancelled run left is said at the begin of the playbook's next one, once.
func TestNextRunSaysWhatIsLeft(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() end) ctx:sleep "1h"`))
	l.ended("an interface may be half set")
	for range 2 {
		l.must(l.process(t.Context()))
	}
	if n := strings.Count(l.log.String(), "the run before was cancelled, and left: an interface may be half set"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, l.log.String())
	}
}

// No attempt continues for ever: what is not bounded by the script is by default.
func TestAttemptsAreBounded(t *testing.T) {
	for options, want := range map[string]time.Duration{`{}`: 4 * time.Hour, `{ timeout = "5m" }`: 5 * time.Minute} {
		undone := 0
		var left time.Duration
		l := newLab(t, script(`ctx:step("one", `+options+`, function() return slow.thing { name = "a" }:change() end)`))
		l.modules = []*bind.Module{slow(func(c *bind.Call) (bool, error) {
			until, _ := c.Context.Deadline()
			left = time.Until(until)
			return true, nil
		}, nil, &undone)}
		l.must(l.process(t.Context()))
		if left > want || left < want-time.Minute {
			t.Errorf("%s: an attempt may last %s", options, left)
		}
	}
}

// A cancel that comes while a call only looks keeps it from changing anything.
func TestCancelBeforeACall(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	made := 0
	change := bind.Effectful(bind.Effect[slowThing, none, string, bool]{
		Look: func(*bind.Call, *slowThing, *none) (string, bool, bool, error) {
			cancel(run.ErrCancelled)
			return "seen", false, false, nil
		},
		Do: func(*bind.Call, *slowThing, *none, string) (bool, error) { made++; return true, nil },
	})
	l := newLab(t, script(`ctx:step("one", function() return slow.thing { name = "a" }:change() end)`))
	l.grace = time.Hour
	m := slow(nil, nil, new(int))
	m.Types[0].Methods[0].Impl = change
	l.modules = []*bind.Module{m}
	out := l.must(l.process(ctx))
	if out.Status != journal.Cancelled || made != 0 || len(out.Left) > 0 || len(l.history().Effects) > 0 {
		t.Errorf("%+v, made %d times, %+v", out, made, l.history().Effects)
	}
}
