package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// grace is how long a child has to end after its pair has closed.
const grace = 5 * time.Second

// session is the parent's side of one child.
type session struct {
	parent *Parent
	proc   Process
	conn   *conn
	how    string // how the child ended, once it was waited for
	ended  bool
	failed error       // of the journal's last lazy write
	frozen atomic.Bool // it was killed because it was stopped
	blame  string      // the misuse that it was killed for; "" if it was not

	run      string           // the run that it works on; "" until it does
	epoch    int64            // this child's, of that run
	quota    journal.Quota    // of that run
	logs     logRoom          // of that run
	playbook string           // the job's; "" for a load
	allowed  *grant.Allowed   // what its playbook may reach
	undoes   []*grant.Allowed // what it could reach when it made the changes that are to be undone

	// Where the run is, for the report of a death.
	step int
	name string
}

// watch forwards cancellation (the child then finishes its clean-up) and drain requests to
// the child. If ctx ends for any other reason, the pending read is aborted. stop waits
// until that is done.
func (s *session) watch(ctx context.Context) (stop func()) {
	stopWatchdog := s.watchdog(ctx)
	drained := make(chan struct{})
	undrain := context.AfterFunc(s.parent.first().drain.context(), func() {
		defer close(drained)
		_ = s.conn.send(&frame{Drain: true})
	})
	done := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(done)
		if errors.Is(context.Cause(ctx), run.ErrCancelled) {
			_ = s.conn.send(&frame{Cancel: s.cancelling(ctx)}) // if the child is gone, the next read fails
			return
		}
		_ = s.conn.rw.SetReadDeadline(time.Unix(1, 0))
	})
	return func() {
		if !unwatch() {
			<-done
		}
		if !undrain() {
			<-drained
		}
		stopWatchdog()
	}
}

// cancelling returns the message that cancels the child's run. If the decisions cannot be
// read it is sent without them: the run must end all the same.
func (s *session) cancelling(ctx context.Context) *cancelling {
	if s.run == "" {
		return &cancelling{}
	}
	decisions, err := s.parent.Journal.Decisions(context.WithoutCancel(ctx), s.run)
	if err != nil {
		return &cancelling{}
	}
	now := slices.ContainsFunc(decisions, func(d journal.Decided) bool {
		return d.What == journal.DecidedCancel && d.Verdict == journal.VerdictNow
	})
	return &cancelling{Decisions: decisions, Now: now}
}

// next returns the child's next frame.
func (s *session) next(ctx context.Context) (*frame, error) {
	f, err := s.conn.receive()
	switch {
	case err == nil:
		return f, nil
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), run.ErrCancelled):
		return nil, context.Cause(ctx)
	case errors.Is(err, errMalformed):
		return nil, s.kill(malformed)
	}
	return nil, s.death()
}

// loaded waits for the child to have loaded the scripts.
func (s *session) loaded(ctx context.Context) (*Loaded, error) {
	defer s.watch(ctx)()
	for {
		f, err := s.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case f.Loaded != nil && !s.answersJob(f.Loaded):
			return nil, s.kill(malformed)
		case f.Loaded != nil:
			return f.Loaded, nil
		case f.Result != nil && f.Result.Error != nil:
			return nil, f.Result.Error
		}
	}
}

// answersJob reports whether loaded answers the job: it must be the job's playbook and no
// other; a load may find any. A child under foreign control may send anything.
func (s *session) answersJob(loaded *Loaded) bool {
	if slices.Contains(loaded.Playbooks, nil) || slices.Contains(loaded.Problems, nil) {
		return false
	}
	return s.playbook == "" || len(loaded.Playbooks) == 1 && loaded.Playbooks[0].Name == s.playbook
}

// result serves the child until it has the outcome of its run.
func (s *session) result(ctx context.Context) (*run.Outcome, error) {
	r, err := s.served(ctx)
	if err != nil {
		return nil, err
	}
	if r.Outcome == nil && s.run != "" {
		return nil, s.kill(malformed)
	}
	return r.Outcome, nil
}

// served serves the child until it has its result.
func (s *session) served(ctx context.Context) (*Result, error) {
	defer s.watch(ctx)()
	defer s.logDropped(ctx)
	for {
		f, err := s.next(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case f.Result != nil && f.Result.Error != nil:
			return nil, f.Result.Error
		case f.Result != nil:
			return f.Result, nil
		case f.Write != nil:
			if forged := s.forgery(f.Write); forged != "" {
				return nil, s.kill(forged)
			}
			err = s.write(ctx, f)
		case f.Secret != "":
			err = s.secret(ctx, f)
		case f.Held != nil:
			held, heldErr := s.parent.Journal.HeldBy(context.WithoutCancel(ctx), f.Held.Values, f.Held.Except)
			err = s.answer(f, &answer{Held: held}, heldErr)
		}
		switch {
		case s.failed != nil:
			return nil, s.failed
		case err != nil:
			return nil, s.death()
		}
	}
}

func (s *session) answer(f *frame, a *answer, err error) error {
	if err != nil {
		a = &answer{Error: problem.From(err)}
	}
	return s.conn.send(&frame{Seq: f.Seq, Answer: a})
}

func (s *session) secret(ctx context.Context, f *frame) error {
	if err := s.checkSecret(f.Secret); err != nil {
		return s.answer(f, nil, err)
	}
	value, err := s.parent.Secrets.Value(ctx, f.Secret)
	if err == nil && !f.Shown {
		s.parent.Redactor.Learn(value)
	}
	return s.answer(f, &answer{Value: value}, err)
}

// malformed is the misuse of a child that sent a frame or record that no child sends.
const malformed = "sent a message that no such process sends"

// forgery returns what is wrong with w, "" for nothing: the process of a run may write no
// records about another run, none that only a decision or the parent makes, and none that
// break a bound.
func (s *session) forgery(w *writing) string {
	for _, recs := range [][]journal.Record{w.Lazy, w.Synced} {
		for _, rec := range recs {
			switch rec.(type) {
			case journal.RunCreated, journal.RunDied, journal.UndoForgotten, journal.Decided:
				return malformed
			}
			if s.run == "" || rec.Stamped().Run != s.run {
				return malformed
			}
			if err := s.quota.Check(journal.ToKeep, rec); err != nil {
				return fmt.Sprintf("sent a record that breaks a bound (%s: %s)", rec.Type(), err)
			}
			s.quota.Add(rec)
		}
	}
	return ""
}

func (s *session) write(ctx context.Context, f *frame) error {
	ctx = context.WithoutCancel(ctx)
	w := f.Write
	expectsAnswer := len(w.Synced) > 0
	w.Lazy, w.Synced = s.logs.fitting(w.Lazy), s.logs.fitting(w.Synced)
	s.addGrants(w.Lazy)
	s.addGrants(w.Synced)
	s.track(w.Lazy)
	s.track(w.Synced)
	err := s.parent.Journal.WriteAfter(ctx, w.Lazy, w.Synced)
	s.observe(w.Lazy)
	if !expectsAnswer {
		s.failed = err
		return nil
	}
	if err != nil {
		return s.answer(f, nil, err)
	}
	s.observe(w.Synced)
	return s.answer(f, &answer{Drain: s.parent.first().drain.started()}, nil)
}

// addGrants adds to each undo what its call may reach; what the child sent there is
// replaced.
func (s *session) addGrants(recs []journal.Record) {
	for i, rec := range recs {
		switch r := rec.(type) {
		case journal.EffectMarked:
			if r.Undo != nil {
				undo := *r.Undo
				undo.Granted = s.granted()
				r.Undo = &undo
				recs[i] = r
				s.undoes = append(s.undoes, s.allowed)
			}
		case journal.UndoAdded: // the script's own function reaches what the script does
			r.Undo.Granted = nil
			recs[i] = r
		}
	}
}

func (s *session) granted() json.RawMessage {
	raw, err := json.Marshal(s.allowed)
	if err != nil {
		return nil
	}
	return raw
}

// addUndoGrant records what the call of a pending undo could reach.
func (s *session) addUndoGrant(u journal.Undo) {
	if u.State != journal.UndoPending || len(u.Granted) == 0 {
		return
	}
	var a *grant.Allowed
	if json.Unmarshal(u.Granted, &a) == nil {
		s.undoes = append(s.undoes, a)
	}
}

// checkSecret refuses a secret unless the playbook is granted it, or was when it made a
// change that is not undone yet.
func (s *session) checkSecret(name string) error {
	err := s.allowed.Secret(name)
	if err == nil || slices.ContainsFunc(s.undoes, func(a *grant.Allowed) bool { return a.Secret(name) == nil }) {
		return nil
	}
	return err
}

func (s *session) observe(recs []journal.Record) {
	if s.parent.Observe != nil {
		for _, r := range recs {
			s.parent.Observe(r)
		}
	}
}

// track records which step the child is in.
func (s *session) track(recs []journal.Record) {
	for _, rec := range recs {
		switch r := rec.(type) {
		case journal.StepStarted:
			s.step, s.name = r.Step, r.Name
		case journal.StepDone, journal.StepFailed, journal.RunEnding:
			s.step, s.name = -1, ""
		}
	}
}

// kill kills a child for a misuse: that counts as its death.
func (s *session) kill(blame string) error {
	s.proc.Kill()
	s.blame = blame
	return s.death()
}

// death returns how the child ended, as the error of the run.
func (s *session) death() error {
	s.wait()
	how := s.how
	switch {
	case s.frozen.Load():
		how = "it was stopped (SIGSTOP), and therefore killed"
	case s.blame != "":
		how = "it " + s.blame + ", and was therefore killed"
	case how == "":
		how = "it ended without a result"
	}
	return &deathError{how: how, step: s.step, name: s.name}
}

func (s *session) wait() {
	if s.ended {
		return
	}
	s.ended = true
	_ = s.conn.rw.Close()
	// The end of the pair ends the child, unless it is stopped or hangs.
	kill := time.AfterFunc(grace, s.proc.Kill)
	defer kill.Stop()
	s.how = s.proc.Wait()
}

// end closes the pair, which ends the child, waits for it, and returns err.
func (s *session) end(err error) error {
	s.wait()
	return err
}
