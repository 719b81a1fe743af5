package run

import (
	"context"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Window is when an appliance may be changed.
type Window interface {
	Open(t time.Time) bool
	// Next returns the next time that it opens, at t or later, and when it closes then.
	Next(t time.Time) (opens, closes time.Time)
}

// Modes of a playbook.
const (
	modeAsk   = "ask"   // a person approves before the first change
	modeWatch = "watch" // nothing is changed
)

// approvalStep is the number of the step that waits for the approval of mode
// ask: it comes before the first change, wherever that is.
const approvalStep = firstDefer - 1

// WaitApproval is what a run waits for that a person has to approve or deny.
const WaitApproval = "approval"

// WaitWindow is what a run waits for that may not change the appliance now.
const WaitWindow = "window"

// WaitLock is the prefix of what a run waits for that needs a lock which another run holds.
const WaitLock = "lock "

// mayChange lets a call that changes the outside world pass, or ends the body.
func (r *Run) mayChange(ctx context.Context, inv *bind.Invocation) error {
	switch {
	case r.cursor.ending: // clean-up does not change the plan
		return nil
	case r.playbook.Mode == modeWatch:
		return skipped("mode watch changes nothing; the first change would be " + inv.Func.Full())
	case r.playbook.Mode == modeAsk:
		if r.cursor.approval == nil {
			r.cursor.approval = &step{
				n: approvalStep, kind: kindApprove,
				stepKey: stepKey{"approve", "the first change, " + inv.Func.Full()},
			}
		}
		if _, err := r.await(ctx, r.cursor.approval); err != nil {
			return err
		}
	}
	w := r.opt.Window
	if w == nil || !inv.Func.Impl.Effect.WindowBound {
		return nil
	}
	now := r.opt.Clock.Now()
	if w.Open(now) {
		return nil
	}
	opens, _ := w.Next(now)
	if opens.IsZero() {
		return misuse(inv.Func.Full(), "the playbook's window never opens: blackouts cover all of it",
			"fix window or blackouts; moonseal run NAME --now changes the appliance all the same")
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: WaitWindow, Until: opens.UTC()})
}

// await returns the answer to an approval, or lets the run wait for it. The answer
// is the step's result, which the decision writes into the journal.
func (r *Run) await(ctx context.Context, s *step) (lua.LValue, error) {
	if v, err, ok := r.replay(s); ok {
		return v, err
	}
	if r.cursor.ending {
		return nil, pastTheEnd()
	}
	out := &Outcome{Status: journal.Waiting, Reason: WaitApproval + ": " + s.key}
	defer func(current *step) { r.current = current }(r.current)
	r.current = s      // what waits
	if s.attempt > 0 { // requested already
		return nil, r.suspend(ctx, out)
	}
	s.attempt = 1
	return nil, r.suspend(ctx, out, s.start(r.rec.stamp()))
}

// Approval is how a person answered.
type Approval struct {
	By     string    `json:"by"`               // who: the user behind the socket or sudo
	Ticket string    `json:"ticket,omitempty"` // of a change-management system
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// DecideApproval returns the record of a person's answer to the approval that a run waits
// for; false if it does not wait for one.
func DecideApproval(h *journal.History, stamp journal.Stamp, approve bool, a Approval) (journal.Record, bool, error) {
	for _, s := range h.Steps {
		if s.Kind != kindApprove || s.State != journal.StepRunning {
			continue
		}
		if !approve {
			message := "denied by " + a.By
			if a.Reason != "" {
				message += ": " + a.Reason
			}
			e := &problem.Error{Kind: problem.Refused, Call: "ctx:approve", Message: message, Step: s.Name}
			return journal.StepFailed{Stamp: stamp, Step: s.Step, Attempt: s.Attempt, Error: e, Final: true}, true, nil
		}
		o := bind.NewObject()
		o.Set("by", a.By)
		o.Set("at", float64(a.At.Unix()))
		if a.Ticket != "" {
			o.Set("ticket", a.Ticket)
		}
		if a.Reason != "" {
			o.Set("reason", a.Reason)
		}
		raw, err := (&bind.Registry{}).Encode(o)
		return journal.StepDone{Stamp: stamp, Step: s.Step, Result: raw}, true, err
	}
	return nil, false, nil
}
