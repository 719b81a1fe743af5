package schedule

import "time"

// wall is what a wall clock shows: seconds since 1970-01-01 00:00 as that clock counts
// them, whatever its time zone.
type wall int64

const (
	minute = wall(60)
	hour   = 60 * minute
	day    = 24 * hour
)

// no zone's clock is further than this from UTC (Manila was, by 15:56 h).
const furthest = 16 * time.Hour

func wallOf(t time.Time, loc *time.Location) wall {
	return wall(t.Unix() + int64(offset(t, loc)))
}

func offset(t time.Time, loc *time.Location) int {
	_, seconds := t.In(loc).Zone()
	return seconds
}

// midnight returns the start of w's day.
func (w wall) midnight() wall {
	rest := w % day
	if rest < 0 {
		rest += day
	}
	return w - rest
}

// date returns w's date, as a time in UTC.
func (w wall) date() time.Time { return time.Unix(int64(w), 0).UTC() }

// period returns a stretch of time around t in which the clock does not change. The real
// one may be longer: for a zone whose rules continue for ever time.ZoneBounds also ends one
// with the year, and in a leap year a day before that.
func period(t time.Time) (start, end time.Time) {
	start, end = t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		end = t.Truncate(24 * time.Hour).Add(24 * time.Hour)
	}
	return start, end
}

// first returns the first instant at which loc's clock shows w or later: if w does not
// exist the instant of the change, if it occurs twice the first.
func (w wall) first(loc *time.Location) time.Time {
	t := time.Unix(int64(w), 0).Add(-furthest).In(loc)
	for {
		start, end := period(t)
		at := time.Unix(int64(w)-int64(offset(t, loc)), 0).In(loc)
		if at.Before(start) {
			return start.In(loc)
		}
		if end.IsZero() || at.Before(end) {
			return at
		}
		t = end.In(loc)
	}
}

// last is as first, but returns the second instant if w occurs twice.
func (w wall) last(loc *time.Location) time.Time {
	at := w.first(loc)
	_, end := period(at)
	if end.IsZero() {
		return at
	}
	again := time.Unix(int64(w)-int64(offset(end, loc)), 0).In(loc)
	if again.Before(end) {
		return at
	}
	return again
}

// until returns the instants at which loc's clock shows w or later but not yet end: one
// stretch, or two if it is set back over end or w in between.
func (w wall) until(end wall, loc *time.Location) []Opening {
	var out []Opening
	t, limit := time.Unix(int64(w), 0).Add(-furthest).In(loc), time.Unix(int64(end), 0).Add(furthest)
	for {
		start, change := period(t)
		back := int64(offset(t, loc))
		o := Opening{later(time.Unix(int64(w)-back, 0).In(loc), start), time.Unix(int64(end)-back, 0).In(loc)}
		if !change.IsZero() {
			o.Closes = earlier(o.Closes, change)
		}
		if o.Opens.Before(o.Closes) {
			out = append(out, o)
		}
		if change.IsZero() || !change.Before(limit) {
			return out
		}
		t = change.In(loc)
	}
}
