package run_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

const makeTwo = `
	local a = ctx:step("one", function() return world.thing { name = "a" }:make() end)
	local b = ctx:step("two", function() return world.thing { name = "b" }:make() end)
	ctx:record { subject = "x", installed = a.id }
`

func TestRunsToItsEndAndUndoes(t *testing.T) {
	l := newLab(t, script(makeTwo))
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Fatalf("got %+v", out)
	}
	if got := strings.Join(l.world.made, " "); got != "a b" || len(l.world.there) != 0 {
		t.Errorf("made %q, left %v", got, l.world.there)
	}
	h, err := l.journal.History(t.Context(), l.id)
	if err != nil || h.Run.Status != journal.Done || len(h.Records) != 1 {
		t.Errorf("history %+v, %v", h, err)
	}
}

// Each call is made once, and the run ends well, wherever its process is killed,
// also when it is killed a second time.
func TestKilledAnywhere(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	type kill struct {
		at   run.Point
		what string
	}
	var kills []kill
	for _, name := range []string{"world.Thing:make"} {
		for _, p := range []run.Point{run.BeforeMark, run.AfterMark, run.AfterAnswer, run.BetweenUndos} {
			kills = append(kills, kill{p, name})
		}
	}
	kills = append(kills, kill{run.AfterStep, "one"}, kill{run.AfterStep, "two"}, kill{run.BeforeEnd, "done"})
	for _, k := range kills {
		for nth := 1; nth <= 2; nth++ {
			for _, second := range append([]kill{{}}, kills...) {
				l := newLab(t, script(makeTwo))
				l.killAt(k.at, k.what, nth)
				out, err := l.process(t.Context())
				if out != nil && nth == 1 {
					t.Fatalf("%v: not killed: %+v, %v", k, out, err)
				}
				l.killAt(second.at, second.what, 1)
				if out == nil {
					out, err = l.process(t.Context())
				}
				if out == nil {
					l.trace = nil
					out, err = l.process(t.Context())
				}
				if out = l.must(out, err); out.Status != journal.Done || strings.Join(l.world.made, " ") != "a b" || len(l.world.there) != 0 {
					t.Errorf("%v nth %d then %v: %+v, made %v, left %v", k, nth, second, out, l.world.made, l.world.there)
				}
			}
		}
	}
}

func TestLostAnswerIsFoundByTheProbe(t *testing.T) {
	l := newLab(t, script(`local a = ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:record { subject = "x", installed = a.id }`))
	l.world.lost["a"] = true
	out := l.must(l.process(t.Context()))
	h, _ := l.journal.History(t.Context(), l.id)
	if out.Status != journal.Done || len(l.world.made) != 1 || string(h.Records[0].Data) != `{"subject":"x","installed":"probed"}` {
		t.Errorf("%+v, made %v, records %s", out, l.world.made, h.Records[0].Data)
	}
}

func TestUnknownWithoutProbe(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:blindly() end)`))
	l.killAt(run.AfterMark, "world.Thing:blindly", 1)
	_, _ = l.process(t.Context())
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || !strings.Contains(out.Reason, "may have happened") || len(l.world.made) != 0 {
		t.Errorf("not repeatable: %+v, made %v", out, l.world.made)
	}
	l = newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:again() end)`))
	l.killAt(run.AfterAnswer, "world.Thing:again", 1)
	_, _ = l.process(t.Context())
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 2 {
		t.Errorf("repeatable: %+v, made %v", out, l.world.made)
	}
}

func TestProbeThatCannotTellWaits(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", { retry = 2 }, function() return world.thing { name = "a" }:make() end)`))
	l.killAt(run.AfterAnswer, "world.Thing:make", 1)
	_, _ = l.process(t.Context())
	l.trace = nil
	l.world.blind["a"] = true
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Waiting || !l.world.there["a"] {
		t.Fatalf("while blind: %+v, there %v", out, l.world.there)
	}
	delete(l.world.blind, "a")
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 1 {
		t.Errorf("after: %+v, made %v", out, l.world.made)
	}
}

func TestScriptsProbeOverrides(t *testing.T) {
	for answer, want := range map[string]int{"{ id = 9 }": 0, "false": 1} {
		l := newLab(t, script(`ctx:step("one", { probe = function() return `+answer+` end }, function() return world.thing { name = "a" }:blindly() end)`))
		l.killAt(run.AfterMark, "world.Thing:blindly", 1)
		_, _ = l.process(t.Context())
		l.trace = nil
		if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != want {
			t.Errorf("probe %s: %+v, made %v", answer, out, l.world.made)
		}
	}
}

func TestRetryThenLongWaitsThenGivesUp(t *testing.T) {
	down := &problem.Error{Kind: problem.Unavailable, Message: "down", Work: problem.NotDone}
	l := newLab(t, script(`ctx:step("one", { retry = { count = 2, backoff = "4s" } }, function() return world.thing { name = "a" }:make() end)`))
	var waits []time.Duration
	for {
		l.world.fail["a"] = down
		again := l.world
		l.trace = func(p run.Point, _ string) {
			if p == run.AfterAnswer {
				again.fail["a"] = down
			}
		}
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Waiting {
			if out.Status != journal.Failed || out.Error.Step != "one" || !strings.Contains(out.Error.Message, "given up after") {
				t.Errorf("in the end: %+v", out)
			}
			break
		}
		wait := out.Until.Sub(l.clock.Now()).Round(time.Minute)
		waits = append(waits, wait)
		l.clock.offset += wait
	}
	want := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	for i, w := range want {
		if waits[i] != w {
			t.Errorf("waits %v", waits)
		}
	}
	if n := len(waits); n < 9 || n > 11 {
		t.Errorf("%d waits before giving up after 7 days", n)
	}
	if l.clock.waits[0] != 4*time.Second {
		t.Errorf("first back-off %v", l.clock.waits[0])
	}
}

func TestAuthIsNeverRetried(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", { retry = 9 }, function() return world.thing { name = "a" }:make() end)`))
	l.world.fail["a"] = &problem.Error{Kind: problem.Auth, Message: "wrong password"}
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Failed || out.Error.Kind != problem.Auth || len(l.clock.waits) != 0 {
		t.Errorf("%+v, waits %v", out, l.clock.waits)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	l.world.fail["a"] = &problem.Error{Kind: problem.RateLimited, Message: "slow down", RetryAfter: l.clock.Now().Add(3 * time.Hour)}
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Waiting || out.Until.Sub(l.clock.Now()) < 2*time.Hour+59*time.Minute {
		t.Errorf("%+v", out)
	}
}

func TestFailedStepsErrorIsTheSameAtReplay(t *testing.T) {
	src := script(`
		local ok, err = pcall(function() return ctx:step("one", function() return world.thing { name = "a" }:make() end) end)
		ctx:record { subject = "x", data = { kind = err.kind, server = err.server, step = err.step } }
		ctx:step("two", function() return 1 end)`)
	l := newLab(t, src)
	l.world.fail["a"] = &problem.Error{Kind: problem.Refused, Message: "no", Server: "go away"}
	l.killAt(run.AfterStep, "two", 1)
	_, _ = l.process(t.Context())
	l.trace = nil
	out := l.must(l.process(t.Context()))
	h, _ := l.journal.History(t.Context(), l.id)
	if out.Status != journal.Done || string(h.Records[0].Data) != `{"subject":"x","data":{"kind":"refused","server":"go away","step":"one"}}` {
		t.Errorf("%+v %s", out, h.Records[0].Data)
	}
	if len(l.world.made) != 0 || len(h.Records) != 1 {
		t.Errorf("made %v, records %v", l.world.made, h.Records)
	}
}

func TestPoll(t *testing.T) {
	l := newLab(t, script(`ctx:poll("wait", { within = "1m", every = "7s" }, function() return world.thing { name = "a" }:there() end)`))
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Failed || out.Error.Kind != problem.Timeout || !strings.Contains(out.Error.Message, "a is not there") || l.world.asks != 10 {
		t.Errorf("%+v after %d questions", out, l.world.asks)
	}
	l = newLab(t, script(`
		ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:poll("wait", function() return world.thing { name = "a" }:there() end)`))
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Errorf("%+v", out)
	}
}

func TestSleepFreesTheProcess(t *testing.T) {
	l := newLab(t, script(`ctx:sleep "2h" ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	for range 2 {
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Waiting || len(l.world.made) != 0 {
			t.Fatalf("%+v", out)
		}
	}
	l.clock.offset += 2 * time.Hour
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 1 {
		t.Errorf("%+v", out)
	}
}

func TestControlFlowCannotBeCaught(t *testing.T) {
	l := newLab(t, script(`pcall(function() ctx:skip "enough" end) ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	if out := l.must(l.process(t.Context())); out.Status != journal.Skipped || out.Reason != "enough" || len(l.world.made) != 0 {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

func TestCancelUndoes(t *testing.T) {
	l := newLab(t, script(`
		ctx:step("one", function() return world.thing { name = "a" }:make() end)
		pcall(function() ctx:step("loop", function() while true do end end) end)
		ctx:step("two", function() return world.thing { name = "b" }:make() end)`))
	ctx, cancel := context.WithCancelCause(t.Context())
	l.trace = func(p run.Point, what string) {
		if p == run.AfterStep && what == "one" {
			time.AfterFunc(20*time.Millisecond, func() { cancel(run.ErrCancelled) })
		}
	}
	out := l.must(l.process(ctx))
	if out.Status != journal.Cancelled || strings.Join(l.world.made, "") != "a" || len(l.world.there) != 0 {
		t.Errorf("%+v, made %v, left %v", out, l.world.made, l.world.there)
	}
}

func TestDeferredFunctions(t *testing.T) {
	src := script(`
		ctx:defer(function(d) world.thing { name = d.name }:make() end, { name = "d1" })
		ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:defer(function(d) world.thing { name = d.name }:make() end, { name = "d2" })
		error "oops"`)
	for _, p := range []run.Point{"", run.AfterMark, run.AfterAnswer, run.BetweenUndos} {
		l := newLab(t, src)
		if p != "" {
			seen := 0
			l.killAt(p, "world.Thing:make", 2)
			if p == run.BetweenUndos {
				l.killAt(p, "ctx:defer", 1)
			}
			_, _ = l.process(t.Context())
			_ = seen
			l.trace = nil
		}
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Failed || out.Error.Message != "oops" || out.Error.Place == nil || out.Error.Place.Line != 6 {
			t.Errorf("%s: %+v", p, out.Error)
		}
		if got := strings.Join(l.world.made, " "); got != "a d2 d1" {
			t.Errorf("%s: made %s", p, got)
		}
	}
}

func TestUndoThatFailsIsKept(t *testing.T) {
	l := newLab(t, script(makeTwo))
	l.world.fail["undo a"] = &problem.Error{Kind: problem.Unavailable, Message: "down"}
	out := l.must(l.process(t.Context()))
	undos, err := l.journal.Undos(t.Context(), journal.UndoPending)
	if out.Status != journal.Done || err != nil || len(undos) != 1 || undos[0].Error.Message != "down" {
		t.Errorf("%+v, %+v, %v", out, undos, err)
	}
	if !strings.Contains(l.log.String(), "moonseal cleanup") {
		t.Errorf("the log does not say what to do: %s", l.log.String())
	}
}

// A call that was refused has left nothing to clean up; one that may have been
// made in part has.
func TestOnlyWhatMayHaveHappenedIsUndone(t *testing.T) {
	for work, want := range map[problem.Work]int{problem.NotDone: 0, problem.Unknown: 1} {
		l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
		l.world.fail["a"] = &problem.Error{Kind: problem.Unavailable, Message: "down", Work: work}
		undone := 0
		l.world.undone = func(string) error {
			undone++
			return nil
		}
		out := l.must(l.process(t.Context())) // the second attempt succeeds
		if out.Status != journal.Done || undone != want+1 {
			t.Errorf("%s: %s, %d undone", work, out.Status, undone)
		}
	}
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	l.world.fail["a"] = &problem.Error{Kind: problem.Auth, Message: "no"}
	l.world.undone = func(string) error { return &problem.Error{Kind: problem.Auth, Message: "asked again"} }
	out := l.must(l.process(t.Context()))
	if undos, err := l.journal.Undos(t.Context(), journal.UndoPending); out.Status != journal.Failed || err != nil || len(undos) != 0 {
		t.Errorf("%+v, %+v, %v", out, undos, err)
	}
}

// What another side asks for is waited for, unless it is long; and what no
// waiting mends is not asked again by the run's end.
func TestUndoComesAgainWhenItMay(t *testing.T) {
	for _, tc := range []struct {
		fail *problem.Error
		in   time.Duration // Retry-After
		asks int
		kept time.Duration // until the next attempt at least
	}{
		{&problem.Error{Kind: problem.RateLimited, Message: "slowly"}, 90 * time.Second, 6, time.Minute},
		{&problem.Error{Kind: problem.RateLimited, Message: "slowly"}, time.Hour, 1, time.Hour - time.Second},
		{&problem.Error{Kind: problem.Auth, Message: "no"}, 0, 1, time.Minute - time.Second},
	} {
		l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end) ctx:undo "one"`))
		asks := 0
		var early time.Duration
		var next time.Time
		l.world.undone = func(string) error {
			asks++
			if now := l.clock.Now(); now.Before(next) {
				early = next.Sub(now)
			}
			e := *tc.fail
			if tc.in > 0 {
				next = l.clock.Now().Add(tc.in)
				e.RetryAfter = next
			}
			return &e
		}
		l.must(l.process(t.Context()))
		undos, err := l.journal.Undos(t.Context(), journal.UndoPending)
		if err != nil || len(undos) != 1 || asks != tc.asks || early > 0 {
			t.Fatalf("%s: %d asks, %s too early, %+v, %v", tc.fail, asks, early, undos, err)
		}
		if wait := undos[0].NextAt.Sub(l.clock.Now()); wait < tc.kept {
			t.Errorf("%s: the next attempt comes in %s", tc.fail, wait)
		}
	}
}

func TestHooks(t *testing.T) {
	l := newLab(t, `local function says(name, more) return function(ctx, e)
		local text = name
		for _, key in ipairs { "status", "step", "attempt", "reason" } do
			if e[key] then text = text .. " " .. key .. "=" .. e[key] end
		end
		if e["until"] then text = text .. " until" end
		if e.error then text = text .. " error=" .. e.error.kind .. ": " .. e.error.message end
		world.say { name = text }
		if more then more() end
	end end
	return { run = function(ctx)
		ctx:step("one", { retry = 2 }, function() return world.thing { name = "a" }:make() end)
		ctx:sleep "10m"
		ctx:step("two", { key = "k" }, function() return world.thing { name = "b" }:make() end)
	end, on = {
		start = says "start", step = says "step", wait = says "wait", success = says "success", finish = says "finish",
		retry = says("retry", function() error "hook" end),
		failure = says("failure", function() world.thing { name = "c" }:make() end),
	} }`)
	l.world.fail["a"] = &problem.Error{Kind: problem.Unavailable, Message: "down", Work: problem.NotDone}
	l.world.fail["b"] = &problem.Error{Kind: problem.Refused, Message: "no"}
	if out := l.must(l.process(t.Context())); out.Status != journal.Waiting {
		t.Fatalf("%+v", out)
	}
	l.clock.advance(10 * time.Minute)
	l.killAt(run.BeforeEnd, "failed", 1)
	_, _ = l.process(t.Context())
	l.trace = nil
	out := l.must(l.process(t.Context()))
	want := []string{
		"start status=running", "step status=started step=one attempt=1", "retry status=retrying step=one attempt=1 error=unavailable: down",
		"step status=started step=one attempt=2", "wait status=waiting reason=sleep until", "step status=started step=two[k] attempt=1",
		"failure status=failed step=two[k] error=refused: no", "finish status=failed step=two[k] error=refused: no",
	}
	if got := l.logged(); out.Status != journal.Failed || !slices.Equal(got, want) {
		t.Errorf("%+v\ngot  %q\nwant %q", out, got, want)
	}
	if len(l.world.made) != 1 || !strings.Contains(l.log.String(), "a hook observes") {
		t.Errorf("a hook changed the world: %v", l.world.made)
	}
}

// logged are the lines that the script has logged.
func (l *lab) logged() []string {
	l.t.Helper()
	logs, err := l.journal.Logs(l.t.Context(), l.id, 0, 100)
	if err != nil {
		l.t.Fatal(err)
	}
	var out []string
	for _, line := range logs {
		if line.Level == "info" && len(line.Fields) == 0 {
			out = append(out, line.Message)
		}
	}
	return out
}

// Each approval that a run waits for is told to wait, and has no instant.
func TestHookOfApprovals(t *testing.T) {
	l := newLab(t, `return { run = function(ctx) ctx:approve "one" ctx:approve "two" end, on = {
		wait = function(ctx, e) world.say { name = e.status .. " " .. e.step .. " " .. e.reason .. " " .. tostring(e["until"]) } end,
		finish = function(ctx, e) world.say { name = e.status .. " " .. tostring(e.error) } end,
	} }`)
	for range 2 {
		if out := l.must(l.process(t.Context())); out.Status != journal.Waiting {
			t.Fatalf("%+v", out)
		}
		l.decide(true)
	}
	l.must(l.process(t.Context()))
	want := []string{"waiting approve[one] approval: one nil", "waiting approve[two] approval: two nil", "done nil"}
	if got := l.logged(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMisuseIsRefused(t *testing.T) {
	for src, want := range map[string]string{
		`world.thing { name = "a" }:make()`:                                          "called outside of a step",
		`ctx:step("a", function() ctx:step("b", function() end) end)`:                `called inside step "a"`,
		`ctx:step("a", function() end) ctx:step("a", function() end)`:                `step "a" comes twice`,
		`local x = 1 ctx:step("a", function() x = 2 end)`:                            "x",
		`ctx:step("a", function() y = 2 end)`:                                        "y",
		`local t = {} ctx:step("a", function() t.x = 2 end)`:                         "return the value from the step",
		`local t = {} ctx:step("a", function() table.insert(t, 2) end)`:              "return the value from the step",
		`local t = {} ctx:poll("a", function() t.x = 2 return true end)`:             "return the value from the step",
		`local x = 1 local function f() x = 2 end ctx:step("a", function() f() end)`: "return the value from the step",
		`ctx:step("a", function() return function() end end)`:                        "not plain data",
		`ctx:step("a", { retri = 2 }, function() end)`:                               `did you mean "retry"?`,
		`ctx:step("a", { retry = 0 }, function() end)`:                               "1 to 100",
		`ctx:step("a", { within = "1m" }, function() end)`:                           "belong to ctx:poll",
		`ctx:step("a", { retry = { on = { "auth" } } }, function() end)`:             "waiting fixes",
		`ctx.step("a", function() end)`:                                              "call it with a colon",
		`ctx:stepp("a", function() end)`:                                             `did you mean "step"?`,
		`ctx:step(12, function() end)`:                                               "expects a string",
		`ctx:undo "b"`:                                                               `no step "b"`,
		`ctx:record { installed = 1 }`:                                               "no subject",
		`ctx:record { subject = "x", instaled = 1 }`:                                 `did you mean "installed"?`,
		`ctx:skip()`:  "the reason as a string",
		`ctx.now = 1`: "read-only",
		`local l = nil; ctx:step("a", function() return l.x end)`:                                                      "index",
		`for _, h in ipairs { "a", "b" } do ctx:step("s", { key = h }, function() end) end error "fine"`:               "fine",
		`ctx:step("a", function() return world.thing { name = "a" } end) error(tostring(ctx.now > 1700000000))`:        "true",
		`local a = ctx:step("a", function() return world.thing { name = "q" } end) error(a.name .. tostring(a:there))`: "",
	} {
		l := newLab(t, script(src))
		out, err := l.process(t.Context())
		if want == "" { // a syntax error
			if err == nil {
				t.Errorf("%s: no error", src)
			}
			continue
		}
		if err != nil || out.Status != journal.Failed || !strings.Contains(out.Error.Error()+out.Error.Hint, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %s", src, out, err, want)
			continue
		}
		if out.Error.Place == nil || out.Error.Place.Line != 2 || out.Error.Place.Source != src {
			t.Errorf("%s: place %+v", src, out.Error.Place)
		}
		if len(l.world.made) != 0 {
			t.Errorf("%s: made %v", src, l.world.made)
		}
	}
}

func TestReplayThatDivergesParks(t *testing.T) {
	l := newLab(t, script(`
		if not world.happened then end`))
	l.source = script(`ctx:step("one", function() return 1 end) ctx:step("two", function() return world.thing { name = "a" }:make() end)`)
	l.killAt(run.AfterStep, "one", 1)
	_, _ = l.process(t.Context())
	l.source = script(`ctx:step("uno", function() return 1 end)`)
	l.trace = nil
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Parked || !strings.Contains(out.Reason, `"one"`) || !strings.Contains(out.Reason, `"uno"`) {
		t.Errorf("%+v", out)
	}
}

// Each step is replayed before the next begins.
func TestReplayAfterEachStep(t *testing.T) {
	l := newLab(t, script(makeTwo))
	l.mode = run.Replay
	n := 1
	for ; n < 9; n++ {
		if out := l.must(l.process(t.Context())); out.Status != run.Replaying {
			break
		}
	}
	if n != 3 || strings.Join(l.world.made, " ") != "a b" {
		t.Errorf("%d processes, made %v", n, l.world.made)
	}
}

func TestRenewalLogOfTheHost(t *testing.T) {
	l := newLab(t, script(`world.say { name = "before" }
		ctx:step("one", function() return world.thing { name = "a" }:host() end)
		world.say { name = "after" }`))
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	data, err := os.ReadFile(filepath.Join(l.dir, "accounts", "a.example.com", "renewal.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "step=one done", "after\n", "run done"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("renewal.log lacks %q:\n%s", want, data)
		}
	}
}

func TestTimeoutCountsWorkOnly(t *testing.T) {
	l := newLab(t, `return { timeout = "50ms", run = function(ctx)
		ctx:step("a", function() return world.thing { name = "a" }:make() end)
		pcall(function() while true do end end)
	end }`)
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Failed || !strings.Contains(out.Error.Message, "longer than its timeout") || len(l.world.there) != 0 {
		t.Errorf("%+v", out.Error)
	}
}

// A script's log is bounded, over all processes of its run; the engine's lines are not.
func TestLogIsBounded(t *testing.T) {
	l := newLab(t, script(`
		ctx:step("much", function()
			world.say { name = ("x"):rep(100000) }
			for _ = 1, 900 do world.say { name = ("x"):rep(8000) } end
		end)
		ctx:sleep "1h"
		ctx:step("more", function() for _ = 1, 200 do world.say { name = ("y"):rep(8000) } end end)
		ctx:step("last", function() return 1 end)`))
	l.must(l.process(t.Context()))
	l.clock.advance(time.Hour)
	l.must(l.process(t.Context()))
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	bytes, dropped, end := 0, "", ""
	for _, line := range logs {
		bytes += len(line.Message) + len(line.Fields)
		if strings.HasSuffix(line.Message, "lines dropped") {
			dropped += line.Message + string(line.Fields)
		}
		end = line.Message
	}
	if first := logs[0].Message; len(first) > 8300 || !strings.HasSuffix(first, "… 91808 bytes more") {
		t.Errorf("the first line has %d bytes", len(first))
	}
	if bytes > 8<<20+4096 || dropped != `53 lines dropped{"reason":"a run's log has at most 10000 lines and 8 MiB"}` || end != "run done" {
		t.Errorf("%d bytes in %d lines; dropped: %s; the last is %q", bytes, len(logs), dropped, end)
	}
}

// No field of a script's counts as the engine's, which readers skip and bounds spare.
func TestLogFieldsAreTheScripts(t *testing.T) {
	l := newLab(t, script(`for _ = 1, 10050 do world.field { name = "_event" } end`))
	l.must(l.process(t.Context()))
	if size := l.history().LogSize; size.Lines != 10001 { // and the one that says so
		t.Errorf("%+v", size)
	}
}
