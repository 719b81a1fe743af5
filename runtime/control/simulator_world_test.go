package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// simWorld is what playbooks change. Its ledger is the truth, which the engine cannot
// see: it learns what it is answered, and that can be lost.
type simWorld struct {
	mu         sync.Mutex
	clock      *wallClock
	book       *book
	ledger     []*entry
	things     map[string]int // how many parts of it are there
	undone     map[string]bool
	polled     map[string]int
	ticks      int
	reached    map[string]bool // steps that the current process has come to
	mayTwice   map[string]bool // things that a person let be made again
	violations []string
	worked     time.Duration // by the run's processes, by the bubble's clock

	point    func(what string)       // something can happen here; may end the goroutine
	fault    func() fault            // what becomes of the next call
	outage   time.Time               // until then, by the bubble's clock, nothing answers
	locked   func(run string) string // what is wrong with the locks of a run that disrupts; "" for nothing
	stale    func(run string) bool   // the calling process has lost its run
	unbooked func(what string)       // a fault that the twin does not have: they may end differently
}

// entry is one call that reached the world.
type entry struct {
	run, fn, name string
	took          bool   // it took effect
	answer        string // answered, refused, lost; "" while, and if, it never returned
	synced        bool   // what was answered is in the journal
}

// unknown reports whether the engine cannot know what became of the call.
func (e *entry) unknown() bool { return e.answer != "answered" && e.answer != "refused" || !e.synced }

// fault is what happens to a call.
type fault int

const (
	noFault  fault = iota
	refuse         // refused, and waiting mends it
	lose           // it happens, and the answer is lost
	vanish         // it does not happen, and no answer says so
	loseHard       // as lose, by an error that waiting does not mend
	reject         // refused for good
	delay          // it happens, and takes a while
)

func newSimWorld(clock *wallClock, b *book) *simWorld {
	return &simWorld{
		clock: clock, book: b, things: map[string]int{}, undone: map[string]bool{}, polled: map[string]int{}, reached: map[string]bool{}, mayTwice: map[string]bool{},
		point: func(string) {}, fault: func() fault { return noFault }, locked: func(string) string { return "" }, stale: func(string) bool { return false },
		unbooked: func(string) {},
	}
}

func (w *simWorld) violate(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// slow is how long an answer takes that takes long: a playbook's timeout can end
// meanwhile. No two timers must end at once, or the select decides.
const slow = 43_217 * time.Millisecond

// parts is of how many parts a restart consists.
const parts = 3

type named interface{ called() (name, data string) }

type made = map[string]any

func (w *simWorld) result(name string) made {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return made{"n": int(h.Sum32() % 100), "name": name, "data": w.intent(name).data}
}

func (w *simWorld) intent(name string) *intent {
	if c := w.book.calls[name]; c != nil {
		return c
	}
	return &intent{name: name}
}

// next returns what becomes of a call that changes nothing by itself.
func (w *simWorld) look(n named) error {
	name, _ := n.called()
	f := w.next()
	if f == noFault || f == delay {
		return nil
	}
	if w.intent(name).caught || f == reject {
		w.unbooked("look of " + name)
	}
	if f == reject {
		return &problem.Error{Kind: problem.Refused, Message: "not allowed"}
	}
	return &problem.Error{Kind: problem.Unavailable, Message: "cannot look"}
}

func (w *simWorld) next() fault {
	f := w.fault()
	if f == noFault && w.clock.Clock.Now().Before(w.outage) {
		return refuse
	}
	return f
}

// do is every function's change.
func (w *simWorld) do(c *bind.Call, fn string, n named, arg string) (made, error) {
	name, data := n.called()
	e := &entry{run: c.Run, fn: fn, name: name}
	w.begin(e, data, arg)
	w.point("reached " + fn)
	f := w.next()
	want := w.intent(name)
	if f != noFault && f != delay && f != lose && f != loseHard && want.caught || f == reject {
		w.unbooked(fmt.Sprint("fault ", f, " of ", name))
	}
	if want.caught && want.used && (f == lose || f == loseHard) {
		w.unbooked("the script goes on without the answer of " + name)
	}
	switch f {
	case refuse, reject:
		e.answer = "refused"
		w.point("refused " + fn)
		if f == reject {
			return nil, &problem.Error{Kind: problem.Refused, Message: "not allowed & refused", Work: problem.NotDone}
		}
		return nil, &problem.Error{Kind: problem.Unavailable, Message: "not now", Work: problem.NotDone}
	case vanish:
		e.answer = "lost"
		return nil, &problem.Error{Kind: problem.Timeout, Message: "no answer"}
	default:
	}
	if err := w.take(c, e); err != nil {
		return nil, err
	}
	w.point("took " + fn)
	if f == delay {
		began := w.clock.Clock.Now()
		err := wait(c.Context, slow)
		w.worked += w.clock.Clock.Since(began)
		if err != nil {
			e.answer = "lost"
			return nil, err
		}
	}
	switch f {
	case lose:
		e.answer = "lost"
		return nil, &problem.Error{Kind: problem.Timeout, Message: "answer lost"}
	case loseHard:
		e.answer = "lost"
		return nil, &problem.Error{Kind: problem.Conflict, Message: "answer torn", Work: problem.Unknown}
	default:
	}
	e.answer = "answered"
	return w.result(name), nil
}

func (w *simWorld) begin(e *entry, data, arg string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := w.intent(e.name)
	if data != want.data || !want.varies && arg != want.data && arg != "" {
		w.violate("%s of %s got %q and %q, the script has %q", e.fn, e.name, data, arg, want.data)
	}
	if !repeatable(e.fn) {
		if w.stale(e.run) {
			w.violate("%s of %s by a process that has lost its run", e.fn, e.name)
		}
		w.notTwice(e, want)
	}
	w.ledger = append(w.ledger, e)
	if !disruptive(e.fn) {
		return
	}
	if wrong := w.locked(e.run); wrong != "" {
		w.violate("%s of %s disrupts without its locks: %s", e.fn, e.name, wrong)
	}
}

// notTwice checks that what cannot be asked about is not made again.
func (w *simWorld) notTwice(e *entry, want *intent) {
	if probed(e.fn) || want.probed || want.varies || w.mayTwice[e.name] {
		return
	}
	for _, old := range w.ledger {
		if old.name == e.name && old.fn == e.fn && old.unknown() {
			w.violate("%s of %s is made again, and it is unknown whether it happened", e.fn, e.name)
		}
	}
}

// take lets the call take effect, part by part where it has parts.
func (w *simWorld) take(c *bind.Call, e *entry) error {
	if e.fn != "restart" {
		w.change(e, 1)
		return nil
	}
	from := 0
	if len(c.Earlier) > 0 {
		if err := json.Unmarshal(c.Earlier, &from); err != nil {
			return err
		}
	}
	if w.part(e.name) > from+1 && !w.intent(e.name).varies {
		w.mu.Lock()
		w.violate("restart of %s begins at part %d, %d are made", e.name, from, w.part(e.name))
		w.mu.Unlock()
	}
	for i := from; i < parts; i++ {
		if w.part(e.name) <= i {
			w.change(e, i+1)
		}
		w.point("part")
		if err := c.Progress(i + 1); err != nil {
			return err
		}
	}
	return nil
}

func (w *simWorld) part(name string) int { return w.things[name] }

// whole is how many parts of a thing there are once it is made.
func (w *simWorld) whole(name string) int {
	if w.intent(name).fn == "restart" {
		return parts
	}
	return 1
}

func (w *simWorld) change(e *entry, part int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !repeatable(e.fn) && !w.mayTwice[e.name] && !w.intent(e.name).varies && w.things[e.name] >= part {
		w.violate("%s of %s took effect twice", e.fn, e.name)
	}
	e.took = true
	w.things[e.name] = part
	delete(w.undone, e.name)
}

// probe is what a function's own probe is answered.
func (w *simWorld) probe(c *bind.Call, fn string, n named) (made, bool, error) {
	name, _ := n.called()
	w.point("probe " + fn)
	f := w.next()
	if f != noFault && f != delay && w.intent(name).caught {
		w.unbooked("probe of " + name)
	}
	switch f {
	case noFault, delay:
	case reject, loseHard:
		return nil, false, &problem.Error{Kind: problem.Auth, Message: "not let in"}
	default:
		return nil, false, &problem.Error{Kind: problem.Unavailable, Message: "cannot see"}
	}
	return w.result(name), w.part(name) >= w.whole(name), c.Context.Err()
}

// undo takes away what a call made.
func (w *simWorld) undo(fn string, n named) error {
	name, data := n.called()
	w.point("undo " + fn)
	switch w.next() {
	case noFault, delay:
	case reject, loseHard:
		return &problem.Error{Kind: problem.Refused, Message: "not allowed"}
	default:
		return &problem.Error{Kind: problem.Unavailable, Message: "not now"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := w.intent(name); data != want.data {
		w.violate("undo of %s got %q, the script has %q", name, data, want.data)
	}
	delete(w.things, name)
	w.undone[name] = true
	return nil
}

// told notes that a person, who looked, has said whether the calls for a thing happened.
func (w *simWorld) told(name string) {
	for _, e := range w.ledger {
		if e.name == name {
			e.answer, e.synced = "refused", true
		}
	}
}

// there lists the things and their parts.
func (w *simWorld) there() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.things)) {
		out = append(out, fmt.Sprintf("%s:%d", name, w.things[name]))
	}
	return out
}

// answered notes that the journal has what the calls so far were answered.
func (w *simWorld) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ledger {
		e.synced = e.synced || e.answer != ""
	}
}

func repeatable(fn string) bool { return fn == "again" }
func disruptive(fn string) bool { return fn == "restart" || fn == "knock" }
func probed(fn string) bool     { return fn == "make" || fn == "restart" }
func undoable(fn string) bool   { return fn == "make" || fn == "keep" || fn == "again" }

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(&problem.Error{Kind: problem.Timeout, Message: "broken off"}, context.Cause(ctx))
	}
}
