package daemon

import (
	"context"
	"testing"
	"time"

	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// stuckCleanup is an executor whose clean-ups last until they are cancelled.
type stuckCleanup struct {
	*fakeExecutor

	started chan string
}

func (s stuckCleanup) Resume(ctx context.Context, job worker.Job, id string) (*run.Outcome, error) {
	if job.Mode != run.Cleanup {
		return s.fakeExecutor.Resume(ctx, job, id)
	}
	s.started <- id
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// left leaves a run that has ended with something to clean up, which is due.
func (h *house) left(playbook string) string {
	h.t.Helper()
	ctx := h.t.Context()
	created, err := h.daemon.control.Begin(ctx, control.Beginning{Playbook: playbook, Bundle: "h"})
	h.check(err)
	s := journal.Stamp{Run: created.Run.ID, Epoch: created.Run.Epoch, At: h.clock.Now().UTC()}
	h.check(h.daemon.journal.Write(ctx, journal.RunResumed{Stamp: s},
		journal.StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1},
		journal.EffectMarked{Stamp: s, Fn: "f", Undo: &journal.UndoSpec{Fn: "g"}}, journal.EffectDone{Stamp: s}, journal.StepDone{Stamp: s},
		journal.RunEnding{Stamp: s, Outcome: journal.Done},
		journal.UndoFailed{Stamp: s, Error: &problem.Error{Kind: problem.Unavailable, Message: "no answer"}, NextAt: s.At}, journal.RunEnded{Stamp: s}))
	return created.Run.ID
}

// Appliances that do not answer keep clean-ups from their end, and services that do not
// answer keep alerts from theirs, but not the daemon from showing that it lives, nor its
// stop.
func TestCleanupsAndAlertsHoldNothingUp(t *testing.T) {
	h := newHouse(t, time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC))
	stuck := stuckCleanup{h.exec, make(chan string, 16)}
	beats, telling := make(chan time.Time, 1024), make(chan struct{}, 16)
	h.makeParts = func(c *config.Config, j *journal.Journal, ctl *control.Control, observe func(journal.Record)) (Parts, error) {
		p, err := h.parts(c, j, ctl, observe)
		p.Executor = stuck
		p.Beat = func(context.Context) error { beats <- h.clock.Now(); return nil }
		p.Send = func(ctx context.Context, _, _ string) error {
			telling <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return p, err
	}
	h.start()
	want := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		want[h.left(name)] = true
	}
	h.drifts(time.Hour, func() bool { return len(stuck.started) == len(want) })
	for range len(want) {
		if id := <-stuck.started; !want[id] {
			t.Errorf("cleaned up after %s", id)
		}
	}
	h.drifts(time.Hour, func() bool { return len(telling) > 0 })
	since := h.clock.Now()
	h.drifts(time.Hour, func() bool {
		select {
		case at := <-beats:
			return at.After(since)
		default:
			return false
		}
	})
	h.stop()
	if errs := h.log.of("cannot look for pending clean-ups"); len(errs) > 0 {
		t.Errorf("%v", errs)
	}
}

// What a run has recorded before it was cancelled counts: its context has ended by then.
func TestCancelledRunKeepsTheNextMoment(t *testing.T) {
	h := newHouse(t, time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC))
	h.script("p", script{Schedule: "0 3 1 1 *", Next: "30h"})
	h.start()
	h.daemon.runs.due(t.Context(), "p", schedule.Reason{Cause: schedule.Due, Slot: h.clock.Now()})
	h.settle()
	runs := h.runs()
	if len(runs) != 1 || runs[0].Status != journal.Done {
		t.Fatalf("%+v", runs)
	}
	h.daemon.schedule.SetNext("p", time.Time{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(run.ErrCancelled)
	h.daemon.runs.after(ctx, queue.Job{Run: runs[0].ID, Playbook: "p"}, &run.Outcome{Status: journal.Cancelled})
	if next := h.daemon.schedule.Next("p"); !next.Equal(runs[0].Ended.Add(30 * time.Hour).Truncate(time.Second)) {
		t.Errorf("next at %s", next)
	}
	if errs := h.log.of("the journal cannot be read"); len(errs) > 0 {
		t.Errorf("%v", errs)
	}
}

// A clean-up failed while the clock was a year ahead: it does not rest until then.
func TestCleanupFollowsACorrectedClock(t *testing.T) {
	h := newHouse(t, time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC))
	stuck := stuckCleanup{h.exec, make(chan string, 16)}
	h.makeParts = func(c *config.Config, j *journal.Journal, ctl *control.Control, observe func(journal.Record)) (Parts, error) {
		p, err := h.parts(c, j, ctl, observe)
		p.Executor = stuck
		return p, err
	}
	h.start()
	h.clock.set(year)
	h.left("p")
	h.clock.set(-year)
	h.drifts(time.Hour, func() bool { return len(stuck.started) == 1 })
	h.stop()
}
