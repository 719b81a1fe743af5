package schedule

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
)

// Cause says why a run is due.
type Cause string

// The causes.
const (
	Due      Cause = "due"       // its schedule says so
	CaughtUp Cause = "caught up" // it was due while the daemon was down or the machine slept
	Asked    Cause = "asked for" // its last run asked for this moment
)

// Reason is why a run is enqueued, and the moment that it was due, without jitter.
type Reason struct {
	Cause Cause
	Slot  time.Time
}

// Options are the options of a scheduler.
type Options struct {
	Clock clockwork.Clock // nil: the real one
	Log   *slog.Logger    // nil: none

	// Enqueue puts a run into the queue. It is called from one goroutine, and should be
	// quick: what is due meanwhile waits. It must return when ctx ends. It may call the
	// scheduler's methods, except Stop.
	Enqueue func(ctx context.Context, name string, why Reason)

	Rand   interface{ Uint64() uint64 } // for jitter; nil: crypto/rand
	Spread time.Duration                // over how long runs are caught up; 0: a minute, less: none
}

// Scheduler enqueues each playbook when it is due. gocron is its alarm clock: one job for
// all, at the earliest moment at which any of them is due.
//
// What was due since a playbook's last run, while the daemon was down, is caught
// up once, spread over a minute (or the schedule's jitter). So is what was missed
// by more than five minutes because the clock was set or the machine slept. When
// the clock is set back, what ran is not run again, unless it ran more than a day
// ahead of the clock, which was wrong then.
type Scheduler struct {
	clock   clockwork.Clock
	log     *slog.Logger
	enqueue func(context.Context, string, Reason)
	planner planner
	alarm   *alarm

	mu     sync.Mutex
	byName map[string]*entry
	heap   entries
	seen   time.Time // the latest time on the clock so far

	cron    gocron.Scheduler // nil: not started
	job     uuid.UUID
	task    gocron.Task
	armed   time.Time // when gocron fires next, zero: it has fired
	waking  bool      // one goroutine enqueues what is due
	stopped bool
	cancel  context.CancelFunc
	wakes   sync.WaitGroup
}

// New returns a scheduler. It enqueues nothing before Start.
func New(o Options) *Scheduler {
	s := &Scheduler{clock: o.Clock, log: o.Log, enqueue: o.Enqueue, byName: map[string]*entry{}}
	if s.clock == nil {
		s.clock = clockwork.NewRealClock()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Spread == 0:
		s.planner.spread = time.Minute
	case o.Spread > 0:
		s.planner.spread = o.Spread
	}
	if o.Rand != nil {
		s.planner.seed = o.Rand.Uint64()
	} else {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails
		s.planner.seed = binary.LittleEndian.Uint64(b[:])
	}
	s.alarm = &alarm{clock: s.clock, glance: glance}
	return s
}

// Start starts to enqueue, until Stop.
func (s *Scheduler) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cron != nil || s.stopped {
		return errors.New("the scheduler was started before")
	}
	cron, err := gocron.NewScheduler(gocron.WithClock(s.clock), gocron.WithLocation(time.UTC))
	if err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.task, s.job = gocron.NewTask(func() { s.wake(ctx) }), uuid.New()
	s.cron = cron
	s.cron.Start()
	s.arm(s.now())
	return nil
}

// Stop stops it, and waits for an Enqueue that is under way.
func (s *Scheduler) Stop() error {
	s.mu.Lock()
	running := s.cron != nil && !s.stopped
	s.stopped = true
	s.mu.Unlock()
	if !running {
		return nil
	}
	s.cancel()
	// gocron's own wait for its jobs keeps a core busy, so there should be none.
	s.wakes.Wait()
	return s.cron.Shutdown()
}

// Set replaces the entries of all playbooks: those that are not among entries are removed.
// LastRun and what was due since then count for a name that is new or no longer paused. A
// schedule that changed counts from now on, and a run that is due already is kept. An At
// that differs from that of the last Set acts as [Scheduler.SetNext]. All others keep their
// next time.
func (s *Scheduler) Set(entries map[string]Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for name, e := range s.byName {
		if _, ok := entries[name]; !ok {
			heap.Remove(&s.heap, e.place)
			delete(s.byName, name)
		}
	}
	for name, in := range entries {
		if e := s.byName[name]; e != nil {
			if s.update(e, in, now) {
				heap.Fix(&s.heap, e.place)
			}
			continue
		}
		e := &entry{name: name, schedule: in.Schedule, paused: in.Paused, done: in.LastRun.Round(0), at: in.At.Round(0), given: in.At}
		if !e.paused {
			s.planner.begin(e, now)
		}
		s.byName[name] = e
		heap.Push(&s.heap, e)
	}
	s.arm(now)
}

// update reports whether it changed e.
func (s *Scheduler) update(e *entry, in Entry, now time.Time) bool {
	changed := false
	if !in.At.Equal(e.given) {
		e.given = in.At
		changed = e.ask(in.At, now)
	}
	reschedule := !same(e.schedule, in.Schedule)
	if reschedule {
		e.schedule = in.Schedule
	}
	switch {
	case e.paused && !in.Paused:
		e.paused, e.done = false, later(e.done, in.LastRun.Round(0))
		s.planner.begin(e, now)
	case in.Paused:
		changed = changed || !e.paused || reschedule
		e.paused = true
		return changed
	case reschedule:
		s.planner.change(e, now)
	default:
		return changed
	}
	return true
}

// ask sets an exact moment for the next run; one that has passed is ignored.
func (e *entry) ask(at, now time.Time) bool {
	if !at.IsZero() && !at.After(now) {
		return false
	}
	e.at = at.Round(0)
	return true
}

func same(a, b *Schedule) bool {
	return a == b || a != nil && b != nil && a.text == b.text
}

// SetNext makes the playbook run at an exact moment too, beside its schedule; it replaces
// the one before. The zero time is none; a moment that has passed, and an unknown name, are
// ignored.
func (s *Scheduler) SetNext(name string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if e := s.byName[name]; e != nil && e.ask(at, now) {
		heap.Fix(&s.heap, e.place)
		s.arm(now)
	}
}

// CheckClock reads the clock and corrects the next wake-up. gocron converts a moment into a
// wait: if the clock is set back just then the wait is too long by as much. Call CheckClock
// now and then, by another timer.
func (s *Scheduler) CheckClock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arm(s.now())
}

// Next returns when the playbook is enqueued next, zero if it is not.
func (s *Scheduler) Next(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byName[name]; e != nil {
		return e.wake()
	}
	return time.Time{}
}

// now reads the clock, and plans again if it was set back. s.mu is held.
func (s *Scheduler) now() time.Time {
	now := s.clock.Now().Round(0)
	if back := s.seen.Sub(now); back > time.Minute {
		s.log.Warn("the clock was set back", "by", back.Round(time.Second).String())
		for _, e := range s.byName {
			s.planner.rebase(e, now)
		}
		heap.Init(&s.heap)
		s.seen, s.armed = now, time.Time{}
	}
	s.seen = later(s.seen, now)
	return now
}

// arm makes gocron fire when something is due. s.mu is held.
func (s *Scheduler) arm(now time.Time) {
	if s.cron == nil || s.stopped || s.waking {
		return
	}
	at := now.Add(s.alarm.glance)
	if len(s.heap) > 0 {
		if first := s.heap[0].wake(); !first.IsZero() {
			at = earlier(at, first)
		}
	}
	if s.armed.After(now) && !at.Before(s.armed) {
		return
	}
	s.armed = at
	s.alarm.at.Store(at.UnixNano())
	// gocron refuses only tasks or options that are wrong for every moment.
	if _, err := s.cron.Update(s.job, gocron.CronJob("", false), s.task, gocron.WithCronImplementation(s.alarm), gocron.WithName("due")); err != nil {
		s.log.Error("gocron refused the next moment", "error", err)
	}
}

// wake enqueues what is due. gocron calls it, sometimes too early.
func (s *Scheduler) wake(ctx context.Context) {
	s.mu.Lock()
	if s.stopped || s.waking {
		s.mu.Unlock()
		return
	}
	s.wakes.Add(1)
	defer s.wakes.Done()
	s.waking, s.armed = true, time.Time{}
	s.alarm.at.Store(s.now().Add(s.alarm.glance).UnixNano())
	s.mu.Unlock()

	for ctx.Err() == nil {
		name, why, ok := s.pop()
		if !ok {
			break
		}
		s.enqueue(ctx, name, why)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.waking = false
	s.arm(s.now())
}

// pop removes and returns one playbook that is due.
func (s *Scheduler) pop() (string, Reason, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for len(s.heap) > 0 {
		e := s.heap[0]
		if at := e.wake(); at.IsZero() || at.After(now) {
			break
		}
		why, ok := s.planner.fire(e, now)
		heap.Fix(&s.heap, 0)
		if ok {
			return e.name, why, true
		}
	}
	return "", Reason{}, false
}
