package run

import (
	"context"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Window says when an appliance may be changed.
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

// WaitLock begins what a run waits for that needs a lock which another run holds.
const WaitLock = "lock "

// mayChange lets a call that changes the outside world pass, or ends the body.
func (r *Run) mayChange(ctx context.Context, inv *bind.Invocation) error {
	switch {
	case r.ending: // clean-up is no change of the plan
		return nil
	case r.playbook.Mode == modeWatch:
		return skipped("mode watch changes nothing; the first change would be " + inv.Func.Full())
	case r.playbook.Mode == modeAsk:
		if err := r.approved(ctx, inv.Func.Full()); err != nil {
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
			"mend window or blackouts; moonseal run NAME --now changes the appliance all the same")
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: WaitWindow, Until: opens.UTC()})
}

// approved passes once a person has approved the run.
func (r *Run) approved(ctx context.Context, what string) error {
	if r.approval == nil {
		r.approval = &step{n: approvalStep, kind: kindApprove, name: "approve", key: "the first change, " + what}
	}
	_, err := r.await(ctx, r.approval)
	return err
}

// await returns the answer to an approval, or lets the run wait for it. The answer
// is the step's result, which whoever decides writes into the journal.
func (r *Run) await(ctx context.Context, s *step) (lua.LValue, error) {
	if v, err, ok := r.settled(s); ok {
		return v, err
	}
	if r.ending {
		return nil, &control{outcome: &Outcome{Status: journal.Skipped}}
	}
	out := &Outcome{Status: journal.Waiting, Reason: WaitApproval + ": " + s.key}
	defer func(current *step) { r.current = current }(r.current)
	r.current = s      // what waits
	if s.attempt > 0 { // asked for already
		return nil, r.suspend(ctx, out)
	}
	s.attempt = 1
	return nil, r.suspend(ctx, out, journal.StepStarted{Stamp: r.stamp(), Step: s.n, Kind: s.kind, Name: s.name, Key: s.key, Attempt: 1})
}

// Approval is how a person answered.
type Approval struct {
	By     string    `json:"by"`               // who: the user behind the socket or sudo
	Ticket string    `json:"ticket,omitempty"` // of a change-management system
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Decide returns the record with which a person's answer settles the approval that
// a run waits for; false where it waits for none.
func Decide(h *journal.History, stamp journal.Stamp, approve bool, a Approval) (journal.Record, bool, error) {
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

// luaApprove is ctx:approve.
func (r *Run) luaApprove(l *lua.LState) (int, error) {
	message, ok := l.Get(2).(lua.LString)
	if !ok || message == "" {
		return 0, misuse("ctx:approve", "it takes what is to be approved as a string", `ctx:approve "restart cluster dfw"`)
	}
	s, err := r.enter(l.Context(), kindApprove, "approve", string(message), stepOptions{})
	if err != nil {
		return 0, err
	}
	v, err := r.await(l.Context(), s)
	if err != nil {
		return 0, err
	}
	l.Push(v)
	return 1, nil
}
