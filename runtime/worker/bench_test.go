package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
)

// BenchmarkStepThroughAChild: a step without effect that returns a small table,
// from a script in a process of its own to its parent's disk, against a bare
// synced commit of the same result on the same disk. Goal: at most 1.5 times.
func BenchmarkStepThroughAChild(b *testing.B) {
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
	if err := fill(b.Context(), j); err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	ctx, enough := context.WithCancelCause(b.Context())
	defer enough(nil)
	var r journaltest.Ratio
	var since time.Time
	p := &worker.Parent{
		Journal: j, Control: control.New(j, clockwork.NewRealClock()), Clock: clockwork.NewRealClock(), Redactor: &secret.Redactor{}, Secrets: secret.Map{},
		Spawner: worker.Exec{Path: exe, Env: []string{childVariable + "=1"}},
		// The child waits for its answer until Observe returns, so nothing of its
		// next step hides behind the floor's commit.
		Observe: func(rec journal.Record) {
			done, ok := rec.(journal.StepDone)
			if !ok || ctx.Err() != nil {
				return
			}
			if !since.IsZero() {
				r.Ours(time.Since(since))
				r.Theirs(journaltest.Time(b, func() error { return floor.Commit(string(done.Result)) }))
			}
			if !b.Loop() {
				enough(run.ErrCancelled)
			}
			since = time.Now()
		},
	}
	job := worker.Job{Playbook: "p", State: j.Dir(), Files: map[string]string{"p.lua": `return playbook { run = function(ctx)
		local n = 0
		repeat
			n = n + 1
			local got = ctx:step("looking", { key = tostring(n) }, function()
				return { host = "cucm01-pub.automate.builders", sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", number = n }
			end)
		until got.number == nil
	end }`}}
	out, err := p.Begin(ctx, job, worker.Ask{}, nil)
	if err != nil || out.Status != journal.Cancelled {
		b.Fatal(out, err)
	}
	r.Slower(b, "")
}

// fill lets the journal's log grow to its size.
func fill(ctx context.Context, j *journal.Journal) error {
	stamp := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now()}
	if err := j.SaveBundle(ctx, "hash", nil); err != nil {
		return err
	}
	if err := j.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: "p", Bundle: "hash"}); err != nil {
		return err
	}
	if err := journaltest.Fill(func(text string) error { return j.Write(ctx, journal.Logged{Stamp: stamp, Message: text}) }); err != nil {
		return err
	}
	return j.Write(ctx, journal.RunEnded{Stamp: stamp, Outcome: journal.Done})
}

// BenchmarkReplay10000: a new process resumes a run of 10,000 steps, which replays
// them and waits again, against reading and decoding the same rows in this process. Goal:
// at most 6 times.
func BenchmarkReplay10000(b *testing.B) {
	const steps = 10_000
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	j, err := journal.Open(b.Context(), b.TempDir(), journal.Options{})
	must(err)
	defer func() { must(j.Close()) }()
	exe, err := os.Executable()
	must(err)
	p := &worker.Parent{
		Journal: j, Control: control.New(j, clockwork.NewRealClock()), Clock: clockwork.NewRealClock(), Redactor: &secret.Redactor{}, Secrets: secret.Map{},
		Spawner: worker.Exec{Path: exe, Env: []string{childVariable + "=1"}},
	}
	job := worker.Job{Playbook: "p", State: j.Dir(), Files: map[string]string{"p.lua": fmt.Sprintf(`return playbook { run = function(ctx)
		ctx:sleep "999h"
		for i = 1, %d do
			local got = ctx:step("looking", { key = tostring(i) }, function() return {} end)
			if got.number ~= i then error("lost") end
		end
		ctx:sleep "999h"
	end }`, steps)}}
	var id string
	out, err := p.Begin(b.Context(), job, worker.Ask{}, func(run string) { id = run })
	must(err)
	if out.Status != journal.Waiting {
		b.Fatalf("%+v", out)
	}
	epoch, err := j.Adopt(b.Context(), id)
	must(err)
	s := journal.Stamp{Run: id, Epoch: epoch, At: time.Now()}
	recs := []journal.Record{journal.StepDone{Stamp: s, Result: json.RawMessage("null")}}
	for i := 1; i <= steps; i++ {
		result := fmt.Sprintf(`{"host":"cucm01-pub.automate.builders","sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","number":%d}`, i)
		recs = append(recs, journal.StepStarted{Stamp: s, Step: i, Kind: "step", Name: "looking", Key: fmt.Sprint(i), Attempt: 1},
			journal.StepDone{Stamp: s, Step: i, Result: json.RawMessage(result)})
	}
	must(j.Write(b.Context(), recs...))
	var r journaltest.Ratio
	for b.Loop() {
		r.Theirs(journaltest.Time(b, func() error {
			h, err := j.History(b.Context(), id)
			if err != nil {
				return err
			}
			for _, step := range h.Steps[:steps+1] { // the last one waits
				var v any
				if err := json.Unmarshal(step.Result, &v); err != nil {
					return err
				}
			}
			return nil
		}))
		r.Ours(journaltest.Time(b, func() error {
			out, err = p.Resume(b.Context(), job, id)
			return err
		}))
		if out.Status != journal.Waiting {
			b.Fatalf("%+v", out)
		}
	}
	r.Slower(b, "")
}
