package journal

import (
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// What a run waits for was reckoned while the clock was a year ahead: once it is right,
// nothing lasts longer than it was meant to. What a replay sees stays.
func TestWaitsGoBackWithTheClock(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	ahead := s.after(365 * 24 * time.Hour)
	must(t, j.Write(t.Context(),
		StepStarted{Stamp: ahead, Step: 0, Kind: "step", Name: "a", Attempt: 1}, StepDone{Stamp: ahead, Step: 0},
		StepStarted{Stamp: ahead, Step: 1, Kind: "poll", Name: "b", Attempt: 1, Deadline: ahead.At.Add(48 * time.Hour)},
		StepFailed{Stamp: ahead, Step: 1, Attempt: 1, NextAt: ahead.At.Add(time.Hour)},
		RunWaiting{Stamp: ahead, For: "poll", Until: ahead.At.Add(time.Hour), Failure: true}))
	r := history(t, j, s.Run).Run
	if !r.Latest.Equal(ahead.At) || !r.ClockSetBack(t0) || r.ClockSetBack(ahead.At) || r.ClockSetBack(ahead.At.Add(-time.Second)) {
		t.Errorf("%+v", r)
	}
	for name, rec := range map[string]Record{
		"resumed": RunResumed{s.after(time.Hour)}, "died": RunDied{s.after(time.Hour), -1}, "again": RunResumed{s.after(time.Hour)},
		"parked": RunParked{Stamp: s.after(time.Hour)},
	} {
		must(t, j.Write(t.Context(), rec))
		h := history(t, j, s.Run)
		began := t0.Add(time.Hour)
		if st := h.Steps[1]; !st.Deadline.Equal(began.Add(48*time.Hour)) || !st.NextAt.Equal(began.Add(time.Hour)) || !st.AttemptAt.Equal(began) {
			t.Errorf("%s: %+v", name, st)
		}
		if r := h.Run; !r.FailingSince.Equal(began) || !r.Latest.Equal(began) || r.ClockSetBack(began) {
			t.Errorf("%s: %+v", name, r)
		}
		if st := h.Steps[0]; !st.Ended.Equal(ahead.At) {
			t.Errorf("%s: the end of a step was moved: %+v", name, st)
		}
	}
}

// The work of a process is what it says, whatever the wall clock did meanwhile, and no
// more than the time that it had.
func TestWorkIsTheProcesssOwn(t *testing.T) {
	hours := func(s Stamp) Stamp { return s.after(3 * time.Hour) } // a VM was resumed
	for name, c := range map[string]struct {
		recs func(s Stamp) []Record
		want time.Duration
	}{
		"waits": {func(s Stamp) []Record { return []Record{RunWaiting{Stamp: hours(s).working(time.Minute)}} }, time.Minute},
		"parks": {func(s Stamp) []Record { return []Record{RunParked{Stamp: hours(s).working(time.Minute)}} }, time.Minute},
		"ends": {func(s Stamp) []Record {
			return []Record{RunEnded{Stamp: hours(s).working(time.Minute), Outcome: Done}}
		}, time.Minute},
		"claims more than its time": {func(s Stamp) []Record { return []Record{RunWaiting{Stamp: hours(s).working(time.Hour)}} }, 10 * time.Minute},
		"claims less than none":     {func(s Stamp) []Record { return []Record{RunWaiting{Stamp: hours(s).working(-time.Hour)}} }, 0},
		"is killed": {func(s Stamp) []Record {
			return []Record{StepStarted{Stamp: hours(s).working(time.Minute), Kind: "step", Name: "a", Attempt: 1}}
		}, time.Minute},
		"is killed at once": {func(Stamp) []Record { return nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			clock := clockwork.NewFakeClockAt(t0)
			j, err := Open(t.Context(), t.TempDir(), Options{Clock: clock})
			must(t, err)
			t.Cleanup(func() { _ = j.Close() })
			s := newRun(t, j, "p")
			s.Epoch, err = j.Adopt(t.Context(), s.Run)
			must(t, err)
			must(t, j.Write(t.Context(), RunResumed{s}))
			clock.Advance(10 * time.Minute)
			if recs := c.recs(s); len(recs) > 0 {
				must(t, j.Write(t.Context(), recs...))
			}
			_, err = j.Adopt(t.Context(), s.Run)
			must(t, err)
			if got := history(t, j, s.Run).Run.Worked; got != c.want {
				t.Errorf("worked %s", got)
			}
		})
	}
}
