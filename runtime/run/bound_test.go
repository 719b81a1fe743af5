package run_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// A result that is too large fails its step, with the line of the step, and the run.
func TestResultIsTooLarge(t *testing.T) {
	l := newLab(t, script(`ctx:step("making", function() return world.thing { name = "a" }:make() end)
	for i = 1, 20 do
		ctx:step("reading", { key = tostring(i) }, function() return ("x"):rep(3900000) end)
	end`))
	out := l.must(l.process(t.Context()))
	e := out.Error
	if out.Status != journal.Failed || e.Code != problem.TooLarge || e.Kind != problem.Usage || e.Step != "" && e.Step != "reading[1]" ||
		!strings.Contains(e.Error(), `step "reading[1]": the result has 3900002 bytes, more than 1048576`) || e.Hint == "" {
		t.Fatalf("%+v", out)
	}
	if e.Place == nil || e.Place.Line != 4 || e.Place.File != "p.lua" {
		t.Errorf("%+v", e.Place)
	}
	h := l.history()
	if s := h.Steps[1]; len(h.Steps) != 2 || s.State != journal.StepIsFailed || s.Error.Place == nil || s.Error.Code != problem.TooLarge || s.Attempt != 1 {
		t.Errorf("%+v", h.Steps)
	}
	if len(l.world.there) > 0 || h.Undos[0].State != journal.UndoIsDone {
		t.Errorf("it was not undone: %v", l.world.there)
	}
}

// So does the result that breaks the bound of the run's history.
func TestHistoryIsTooLarge(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	l := newLab(t, script(`ctx:step("making", function() return world.thing { name = "a" }:make() end)
	for i = 1, 91 do
		ctx:step("reading", { key = tostring(i) }, function() return ("x"):rep(1000000) end)
	end`))
	out := l.must(l.process(t.Context()))
	e := out.Error
	if out.Status != journal.Failed || e.Code != problem.TooLarge || !strings.Contains(e.Error(), `step "reading[34]": the run's history has 34`) {
		t.Fatalf("%+v", out)
	}
	if e.Place == nil || e.Place.Line != 4 || e.Hint == "" {
		t.Errorf("%+v", e.Place)
	}
	h := l.history()
	if len(h.Steps) != 35 || len(l.world.there) > 0 || h.Undos[0].State != journal.UndoIsDone {
		t.Errorf("%d steps; %v", len(h.Steps), l.world.there)
	}
}

// A history that is full takes no further step, whatever the script catches; what has
// begun is cleaned up.
func TestFullHistoryTakesNoStep(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	l := newLab(t, script(`ctx:step("making", function() return world.thing { name = "a" }:make() end)
	for i = 1, 100000 do
		pcall(ctx.step, ctx, "reading", { key = tostring(i) }, function() return ("x"):rep(i <= 33 and 1000000 or 20000) end)
	end`))
	out := l.must(l.process(t.Context()))
	if e := out.Error; out.Status != journal.Failed || e.Code != problem.TooLarge || e.Call != "ctx:step" ||
		!strings.Contains(e.Error(), "bytes with the step's name with its key, more than 33554432") || e.Place == nil || e.Place.Line != 4 {
		t.Fatalf("%+v", out)
	}
	if h := l.history(); len(l.world.there) > 0 || h.Run.Status != journal.Failed {
		t.Errorf("%v %+v", l.world.there, h.Run)
	}
}

// bulky has calls with much to say.
type bulky struct {
	made   int
	undone []string
}

type one struct {
	Name string `lua:"name" doc:"its name"`
}

type amount struct {
	Size int    `lua:"size,optional" doc:"of the result"`
	Text string `lua:"text,optional" doc:"of the arguments"`
	Far  int    `lua:"far,optional" doc:"size of the progress"`
}

func (b *bulky) module() *bind.Module {
	do := func(c *bind.Call, _ *one, a *amount, _ string) (string, error) {
		b.made++
		if a.Far > 0 {
			if err := c.Progress(strings.Repeat("x", a.Far)); err != nil {
				return "", err
			}
		}
		return strings.Repeat("x", a.Size), nil
	}
	undo := func(_ *bind.Call, _ *one, _ *amount, result *string) error {
		if result == nil {
			b.undone = append(b.undone, "nothing known")
			return nil
		}
		b.undone = append(b.undone, *result)
		return nil
	}
	probe := func(_ *bind.Call, _ *one, a *amount, _ string) (string, bool, error) {
		return strings.Repeat("x", a.Size), b.made > 0, nil
	}
	return &bind.Module{
		Name: "bulky", Doc: "x",
		Functions: []*bind.Func{{Name: "one", Doc: "x", Returns: "it", Example: "x", Table: true, Impl: bind.Pure(func(o *one) (*one, error) { return o, nil })}},
		Types: []*bind.Type{bind.Handle[one]("bulky.One", 1, "x",
			&bind.Func{Name: "call", Doc: "x", Returns: "much", Example: "x", Table: true, Impl: bind.Effectful(bind.Effect[one, amount, string, string]{Do: do, Undo: undo})},
			&bind.Func{Name: "known", Doc: "x", Returns: "much", Example: "x", Table: true, Impl: bind.Effectful(bind.Effect[one, amount, string, string]{Do: do, Undo: undo, Probe: probe})},
		)},
	}
}

func bulkyLab(t *testing.T, body string) (*lab, *bulky) {
	t.Helper()
	b := &bulky{}
	l := newLab(t, script(body))
	l.modules = append(l.modules, b.module())
	return l, b
}

// A call that has happened, and whose result is too large, is neither lost nor made
// again: the run parks, and a person says the result in brief.
func TestResultOfACallIsTooLarge(t *testing.T) {
	const body = `local v = ctx:step("calling", function() return bulky.one { name = "a" }:call { size = 2000000 } end)
	ctx:record { subject = "s", data = { got = v } }`
	l, b := bulkyLab(t, body)
	for range 2 { // whoever resumes it without more
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Parked || !strings.Contains(out.Reason, "bulky.One:call") || !strings.Contains(out.Reason, "--as 1.1=done --result 1.1=JSON") {
			t.Fatalf("%+v", out)
		}
		if h := l.history(); b.made != 1 || len(h.Effects) != 1 || h.Effects[0].State != journal.EffectIsDone || len(h.Effects[0].Result) > 0 {
			t.Fatalf("made %d times; %+v", b.made, h.Effects)
		}
	}
	h := l.history()
	recs, err := run.DecideCalls(h, journal.Stamp{Run: l.id, Epoch: h.Run.Epoch, At: l.clock.Now()}, l.registry(), verdict(run.AsDone, `"brief"`))
	if err != nil || len(recs) != 1 {
		t.Fatal(recs, err)
	}
	if err := l.journal.Write(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	out := l.must(l.process(t.Context()))
	if h := l.history(); out.Status != journal.Done || b.made != 1 || string(h.Steps[0].Result) != `"brief"` || len(b.undone) != 1 || b.undone[0] != "brief" {
		t.Errorf("%+v; made %d times, undone %q; %+v", out, b.made, b.undone, h.Steps)
	}

	l, b = bulkyLab(t, body)
	l.must(l.process(t.Context()))
	l.mode = run.Cancel
	if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || b.made != 1 || len(b.undone) != 1 || b.undone[0] != "nothing known" {
		t.Errorf("%+v; made %d times, undone %q", out, b.made, b.undone)
	}
}

// The same of one whose answer was lost and whose probe says that it has happened.
func TestResultOfAProbeIsTooLarge(t *testing.T) {
	const body = `ctx:step("calling", function() bulky.one { name = "a" }:known { size = 2000000 } return 1 end)`
	l, b := bulkyLab(t, body)
	l.killAt(run.AfterAnswer, "bulky.One:known", 1)
	if out, err := l.process(t.Context()); out != nil || err != nil {
		t.Fatal(out, err)
	}
	l.trace = nil
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || b.made != 1 {
		t.Fatalf("%+v; made %d times", out, b.made)
	}
	// Cancelled while its outcome is not known.
	l, b = bulkyLab(t, body)
	l.killAt(run.AfterAnswer, "bulky.One:known", 1)
	if out, err := l.process(t.Context()); out != nil || err != nil {
		t.Fatal(out, err)
	}
	l.trace, l.mode = nil, run.Cancel
	if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || b.made != 1 || len(b.undone) != 1 {
		t.Errorf("%+v; made %d times, undone %q", out, b.made, b.undone)
	}
	if h := l.history(); h.Run.Status != journal.Cancelled || h.Effects[0].State != journal.EffectIsDone {
		t.Errorf("%+v", h)
	}
}

// Arguments that are too large are refused before the call.
func TestArgumentsAreTooLarge(t *testing.T) {
	l, b := bulkyLab(t, `ctx:step("calling", function()
		return bulky.one { name = "a" }:call { text = ("x"):rep(2000000) }
	end)`)
	out := l.must(l.process(t.Context()))
	e := out.Error
	if out.Status != journal.Failed || e.Code != problem.TooLarge || !strings.Contains(e.Error(), "bulky.One:call: the call with its arguments has") || e.Place == nil || e.Place.Line != 3 {
		t.Errorf("%+v", out)
	}
	if h := l.history(); b.made != 0 || len(h.Effects)+len(h.Undos) > 0 {
		t.Errorf("made %d times; %+v", b.made, h.Effects)
	}
}

// So is progress, which the call hears of: nobody knows how far it has come.
func TestProgressIsTooLarge(t *testing.T) {
	l, b := bulkyLab(t, `ctx:step("calling", function() return bulky.one { name = "a" }:call { far = 2000000 } end)`)
	out := l.must(l.process(t.Context()))
	if h := l.history(); out.Status != journal.Failed || out.Error.Code != problem.TooLarge || b.made != 1 || len(h.Effects[0].Progress) > 0 {
		t.Errorf("%+v; made %d times", out, b.made)
	}
}

// What a script hands over outside of steps is refused with its line, in each process
// alike.
func TestValuesOutsideOfStepsAreTooLarge(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	for name, call := range map[string]string{
		"record": `ctx:record { subject = "s", data = { x = ("x"):rep(2000000) } }`,
		"defer":  `ctx:defer(function() end, ("x"):rep(2000000))`,
		"step":   `ctx:step(("x"):rep(5000), function() end)`,
		"key":    `ctx:step("n", { key = ("x"):rep(5000) }, function() end)`,
		"poll":   `ctx:poll(("x"):rep(5000), function() return 1 end)`,
		"ask":    `ctx:approve(("x"):rep(5000))`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, script("\n"+call))
			out := l.must(l.process(t.Context()))
			if e := out.Error; out.Status != journal.Failed || e.Code != problem.TooLarge || e.Place == nil || e.Place.Line != 3 {
				t.Errorf("%+v", out)
			}
			l = newLab(t, script(fmt.Sprintf(`local ok, err = pcall(function() %s end)
				local said = tostring(err)
				ctx:record { subject = "s", data = { ok = ok } }
				ctx:defer(function() end, said)
				ctx:step("n", { key = said }, function() end)
				ctx:sleep "10m"
				ctx:step("m", { key = said }, function() end)`, call)))
			out = l.must(l.process(t.Context()))
			before := l.history()
			for n := 0; out.Status == journal.Waiting && n < 3; n++ {
				l.clock.advance(out.Until.Sub(l.clock.Now()))
				out = l.must(l.process(t.Context()))
			}
			if h := l.history(); out.Status != journal.Done || len(h.Records) != 1 || len(h.Undos) != len(before.Undos) || string(h.Records[0].Data) != `{"subject":"s","data":{"ok":false}}` {
				t.Errorf("%+v; %+v", out, h.Records)
			}
		})
	}
}

// Long texts of errors and reasons are cut: what has happened is always journaled.
func TestLongTextsAreCut(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	for name, body := range map[string]string{
		"a step's error": `ctx:step("n", function() error(("x"):rep(5000000)) end)`,
		"the body's":     `error(("x"):rep(5000000))`,
		"a skip":         `ctx:skip(("x"):rep(5000000))`,
		"a poll":         `ctx:poll("n", { every = "1h", within = "2h" }, function() return nil, ("x"):rep(5000000) end)`,
	} {
		l := newLab(t, script(body))
		l.must(l.process(t.Context()))
		h := l.history()
		b, err := json.Marshal(h)
		if err != nil || len(b) > 128<<10 || !strings.Contains(string(b), "bytes more") {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// A run that an older version has let grow continues, and can be cancelled and cleaned up.
func TestHistoryOfAnOlderVersion(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	const steps = 17 // 63 MiB
	grown := func(t *testing.T) *lab {
		t.Helper()
		l := newLab(t, script(fmt.Sprintf(`ctx:step("making", function() return world.thing { name = "a" }:make() end)
		for i = 1, %d do
			ctx:step("reading", { key = tostring(i) }, function() return 1 end)
		end
		ctx:step("end", function() return 1 end)`, steps)))
		l.killAt(run.AfterStep, "making", 1)
		if out, err := l.process(t.Context()); out != nil || err != nil {
			t.Fatal(out, err)
		}
		l.trace = nil
		result := json.RawMessage(`"` + strings.Repeat("x", 3_900_000) + `"`)
		s := journal.Stamp{Run: l.id, Epoch: l.history().Run.Epoch, At: l.clock.Now()}
		for i := range steps {
			if err := l.journal.Write(t.Context(), journal.StepStarted{Stamp: s, Step: i + 1, Kind: "step", Name: "reading", Key: fmt.Sprint(i + 1), Attempt: 1},
				journal.StepDone{Stamp: s, Step: i + 1, Result: result}); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	t.Run("resume", func(t *testing.T) {
		l := grown(t)
		if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.history().Steps) != steps+2 {
			t.Errorf("%+v", out)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		l := grown(t)
		l.world.fail["undo a"] = &problem.Error{Kind: problem.Refused, Message: "not now"}
		l.mode = run.Cancel
		if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || !l.world.there["a"] {
			t.Fatalf("%+v %v", out, l.world.there)
		}
		delete(l.world.fail, "undo a")
		l.mode = run.Cleanup
		if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || l.world.there["a"] {
			t.Errorf("%+v %v", out, l.world.there)
		}
	})
}
