package run_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// stepsScript runs steps without effects until the journal has had enough.
const stepsScript = `return { run = function(ctx)
	local n = 0
	repeat
		n = n + 1
		local got = ctx:step("looking", { key = tostring(n) }, function()
			return { host = "cucm01-pub.automate.builders", sha256 = "` + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" + `", number = n }
		end)
	until got.number == nil
end }`

// turns is the journal of a run whose steps take turns with the floor: after
// each step the run stands still while the floor commits the same result.
type turns struct {
	*journal.Journal
	b      *testing.B
	floor  *journaltest.Floor
	ratio  journaltest.Ratio
	since  time.Time
	ended  bool // enough was called; a step may be under way
	enough func()
}

// Write ends a step: the time since the last one's end is what a whole step
// costs a script, from the loop around it to its result on the disk.
func (j *turns) Write(ctx context.Context, recs ...journal.Record) error {
	if err := j.Journal.Write(ctx, recs...); err != nil {
		return err
	}
	done, ok := recs[0].(journal.StepDone)
	if !ok || j.ended {
		return nil
	}
	if !j.since.IsZero() {
		j.ratio.Ours(time.Since(j.since))
		j.ratio.Theirs(journaltest.Time(j.b, func() error { return j.floor.Commit(string(done.Result)) }))
	}
	if !j.b.Loop() {
		j.ended = true
		j.enough()
	}
	j.since = time.Now()
	return nil
}

// BenchmarkStepThroughTheEngine: a step without effect that returns a small table,
// from script to disk, against a bare synced commit of the same result on the same
// disk. Goal: at most 1.5 times.
func BenchmarkStepThroughTheEngine(b *testing.B) {
	j, err := journal.Open(b.Context(), b.TempDir(), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	floor, err := journaltest.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = floor.Close() }()
	ctx, enough := context.WithCancelCause(b.Context())
	defer enough(nil)
	t := &turns{Journal: j, b: b, floor: floor, enough: func() { enough(run.ErrCancelled) }}
	execute(ctx, b, t, j, stepsScript)
	t.ratio.Slower(b, "")
}

// execute runs a script in this process, with the journal to as its own.
func execute(ctx context.Context, b *testing.B, to run.Journal, j *journal.Journal, source string) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	id := j.NewRunID()
	must(j.SaveBundle(ctx, "hash", []journal.Source{{Path: "p.lua", Body: []byte(source)}}))
	must(j.Write(ctx, journal.RunCreated{Stamp: journal.Stamp{Run: id, Epoch: 1, At: time.Now()}, Playbook: "p", Bundle: "hash"}))
	must(journaltest.Fill(func(text string) error {
		return j.Write(ctx, journal.Logged{Stamp: journal.Stamp{Run: id, Epoch: 1, At: time.Now()}, Message: text})
	}))
	h, err := j.History(ctx, id)
	must(err)
	reg, err := bind.NewRegistry()
	must(err)
	network, err := grant.New(grant.Options{})
	must(err)
	state := sandbox.New(ctx, sandbox.Options{Source: func(string) (string, bool) { return source, true }})
	defer state.Close()
	r := run.New(state, run.Options{
		Registry: reg, History: h, Journal: to, Clock: clockwork.NewRealClock(), Network: network, Account: account.Open(j.Dir(), ""),
		Logger: slog.New(slog.DiscardHandler), Secrets: secret.Map{}, Redactor: &secret.Redactor{}, Jitter: func() float64 { return 0.5 },
	})
	proto, err := sandbox.Compile("p.lua", source)
	must(err)
	values, err := state.Call(ctx, state.L, state.L.NewFunctionFromProto(proto))
	must(err)
	p, err := run.ReadPlaybook(state.L, "p", values[0].(*lua.LTable))
	must(err)
	out, err := r.Execute(ctx, p)
	must(err)
	if out.Status != journal.Cancelled {
		b.Fatalf("%+v", out)
	}
}
