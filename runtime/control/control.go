package control

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// Control creates runs and decides about them. It is safe for concurrent use.
type Control struct {
	journal   *journal.Journal
	clock     clockwork.Clock
	functions run.Functions
	beginning sync.Mutex // held while a run is created
}

// New returns the Control of a journal that is open for writing. A journal has one; call
// [TakeOver] before it is used. A nil clock is the real one.
func New(j *journal.Journal, clock clockwork.Clock) *Control {
	if clock == nil {
		clock = clockwork.NewRealClock()
	}
	return &Control{journal: j, clock: clock}
}

// Knowing lets c check results that a user enters, and know which calls may be repeated.
// Call it before c is used.
func (c *Control) Knowing(f run.Functions) *Control {
	c.functions = f
	return c
}

// Beginning is a run to create.
type Beginning struct {
	Run      string // its id; "" for a new one
	Playbook string
	Bundle   string // the hash over Sources
	Sources  []journal.Source
	Locks    []string // names as the playbook has them
	Shared   []string // lock names that all tenants share
	Force    bool
	By       string // the caller; "" for the schedule
}

// Started is a run that was created, or the playbook's unfinished one.
type Started struct {
	Run        journal.Run
	Unfinished bool // it existed already
}

// Begin creates a run on the given sources, unless one of the playbook is unfinished.
func (c *Control) Begin(ctx context.Context, b Beginning) (Started, error) {
	c.beginning.Lock() // two callers must not create two runs of one playbook
	defer c.beginning.Unlock()
	open, err := c.journal.Unfinished(ctx, b.Playbook)
	if err != nil {
		return Started{}, err
	}
	if len(open) > 0 {
		return Started{open[0], true}, nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := c.journal.SaveBundle(ctx, b.Bundle, b.Sources); err != nil {
		return Started{}, err
	}
	if b.Run == "" {
		b.Run = c.journal.NewRunID()
	}
	stamp := journal.Stamp{Run: b.Run, Epoch: 1, At: c.clock.Now().UTC()}
	created := journal.RunCreated{Stamp: stamp, Playbook: b.Playbook, Bundle: b.Bundle, Force: b.Force, Locks: lockNames(b)}
	recs := []journal.Record{created}
	if b.By != "" {
		recs = append(recs, journal.Decided{Stamp: stamp, What: journal.DecidedBegin, By: b.By})
	}
	if err := c.journal.Write(ctx, recs...); err != nil {
		return Started{}, err
	}
	return Started{Run: journal.Run{
		ID: b.Run, Playbook: b.Playbook, Bundle: b.Bundle, Status: journal.Created, Epoch: 1, Force: b.Force, Locks: created.Locks,
		Created: stamp.At, Updated: stamp.At, Latest: stamp.At,
	}}, nil
}

// Beginning returns the lock that is held while a run is created: a bundle that is removed
// meanwhile could be the one of that run.
func (c *Control) Beginning() sync.Locker { return &c.beginning }

// lockNames returns the names that a playbook's locks have in the journal.
func lockNames(b Beginning) []string {
	tenant, _, nested := strings.Cut(b.Playbook, "/")
	var out []string
	for _, name := range b.Locks {
		if nested && !slices.Contains(b.Shared, name) {
			name = tenant + "/" + name
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unended returns the history of a run, and refuses one that has ended.
func (c *Control) unended(ctx context.Context, id string) (*journal.History, error) {
	h, err := c.journal.History(ctx, id)
	if err != nil {
		return nil, err
	}
	if !h.Run.Ended.IsZero() {
		return nil, journal.Ended(h.Run)
	}
	return h, nil
}

// ended returns a run that has ended, and its pending undos.
func (c *Control) ended(ctx context.Context, id string) (journal.Run, []journal.Undo, error) {
	r, err := c.journal.Run(ctx, id)
	if err != nil {
		return r, nil, err
	}
	if r.Ended.IsZero() {
		return r, nil, &problem.Error{
			Kind: problem.Conflict, Code: problem.RunUnended, Target: "run " + r.ID, Message: "it has not ended: it cleans up by itself", Work: problem.NotDone,
			Hint: "moonseal run " + r.Playbook + " continues it, moonseal cancel " + r.ID + " ends it",
		}
	}
	undos, err := c.journal.Undos(ctx, journal.UndoPending)
	if err != nil {
		return r, nil, err
	}
	undos = slices.DeleteFunc(undos, func(u journal.Undo) bool { return u.Run != r.ID })
	if len(undos) == 0 {
		return r, nil, &problem.Error{
			Kind: problem.Conflict, Code: problem.NothingLeft, Target: "run " + r.ID, Message: "nothing of it is left to clean up", Work: problem.NotDone,
		}
	}
	return r, undos, nil
}

func (c *Control) decided(what, run string, d Decision) journal.Decided {
	return journal.Decided{
		Stamp: journal.Stamp{Run: run, At: c.clock.Now().UTC()}, What: what, By: d.By, Ticket: d.Ticket, Reason: d.Reason, Verdict: d.verdict(),
	}
}
