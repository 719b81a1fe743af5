package run_test

import (
	"strings"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// A call was half done, and the next attempt at it ended before it came to anything: the
// one after that continues where the first one stopped.
func TestProgressOutlivesAnAttempt(t *testing.T) {
	undone, calls := 0, 0
	var earlier []string
	l := newLab(t, `return { run = function(ctx)
		ctx:step("one", function() return slow.thing { name = "a" }:change() end)
	end }`)
	end := func(c *bind.Call) (bool, error) {
		earlier = append(earlier, string(c.Earlier))
		if calls++; calls == 1 {
			return false, errorsOr(c.Progress("2 of 3"), &problem.Error{Kind: problem.Unavailable, Message: "lost"})
		}
		return true, nil
	}
	l.modules = []*bind.Module{slow(end, func() (bool, error) { return false, nil }, &undone)}
	l.killAt(run.AfterMark, "slow.Thing:change", 2)
	if out, err := l.process(t.Context()); out != nil || err != nil {
		t.Fatal(out, err)
	}
	l.trace = nil
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Done || strings.Join(earlier, ";") != `;"2 of 3"` {
		t.Errorf("%+v, the calls began after %q", out, earlier)
	}
}

// The same call twice in a step is two calls: the second one begins anew.
func TestProgressIsOfOneCall(t *testing.T) {
	undone := 0
	var earlier []string
	l := newLab(t, `return { run = function(ctx)
		ctx:step("one", function() local a = slow.thing { name = "a" } return a:change() and a:change() end)
	end }`)
	end := func(c *bind.Call) (bool, error) {
		earlier = append(earlier, string(c.Earlier))
		return true, c.Progress("3 of 3")
	}
	l.modules = []*bind.Module{slow(end, func() (bool, error) { return false, nil }, &undone)}
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Done || strings.Join(earlier, ";") != ";" {
		t.Errorf("%+v, the calls began after %q", out, earlier)
	}
}
