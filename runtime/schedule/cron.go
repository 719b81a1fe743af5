package schedule

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"moonseal/runtime/suggest"
)

// cron is a 5-field cron expression (crontab(5)). Each field is a set of bits.
type cron struct {
	minutes, hours, days, months, weekdays uint64

	anyDay, anyWeekday bool // the field begins with *: else either of the two is enough
	loc                *time.Location
}

type field struct {
	name     string
	min, max int
	words    []string // for min, min+1, …
}

func fields() [5]field {
	return [5]field{
		{"minute", 0, 59, nil},
		{"hour", 0, 23, nil},
		{"day of month", 1, 31, nil},
		{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
		{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"}},
	}
}

func parseCron(text string, loc *time.Location) (*cron, error) {
	parts := strings.Fields(text)
	if len(parts) != 5 {
		return nil, fmt.Errorf("cron %q has %d fields, expects 5: minute, hour, day, month and day of week", text, len(parts))
	}
	var sets [5]uint64
	for i, f := range fields() {
		set, err := f.parse(parts[i])
		if err != nil {
			return nil, fmt.Errorf("cron %q: %w", text, err)
		}
		sets[i] = set
	}
	if sets[4]&(1<<7) != 0 { // 7 is Sunday too
		sets[4] = sets[4]&^(1<<7) | 1
	}
	c := &cron{minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4], loc: loc}
	c.anyDay, c.anyWeekday = parts[2][0] == '*', parts[4][0] == '*'
	if !c.possible() {
		return nil, fmt.Errorf("cron %q never occurs: none of its months has such a day", text)
	}
	return c, nil
}

func (f field) parse(text string) (uint64, error) {
	var set uint64
	for part := range strings.SplitSeq(text, ",") {
		from, to, step, err := f.part(part)
		if err != nil {
			return 0, err
		}
		for n := from; n <= to; n += step {
			set |= 1 << n
		}
	}
	return set, nil
}

// part reads "*", "n" or "n-m", the first and the last with "/step" behind it.
func (f field) part(text string) (from, to, step int, err error) {
	span, by, stepped := strings.Cut(text, "/")
	low, high, ranged := strings.Cut(span, "-")
	switch {
	case span == "*":
		from, to = f.min, f.max
		if f.max == 7 {
			to = 6
		}
	case ranged:
		if from, err = f.number(low); err != nil {
			return 0, 0, 0, err
		}
		if to, err = f.number(high); err != nil {
			return 0, 0, 0, err
		}
		if to == 0 && f.max == 7 && from > 0 { // sat-sun
			to = 7
		}
		if to < from {
			return 0, 0, 0, fmt.Errorf("%s %q is descending; write two ranges", f.name, text)
		}
	default:
		if from, err = f.number(span); err != nil {
			return 0, 0, 0, err
		}
		to = from
	}
	if !stepped {
		return from, to, 1, nil
	}
	step, err = strconv.Atoi(by)
	switch {
	case err != nil || step < 1:
		return 0, 0, 0, fmt.Errorf("%s %q: %q is not a valid step", f.name, text, by)
	case from == to:
		return 0, 0, 0, fmt.Errorf("%s %q: a step expects * or a range before it", f.name, text)
	case step > to-from:
		return 0, 0, 0, fmt.Errorf("%s %q: a step of %d exceeds the range %d to %d", f.name, text, step, from, to)
	}
	return from, to, step, nil
}

func (f field) number(text string) (int, error) {
	for i, word := range f.words {
		if strings.EqualFold(word, text) {
			return f.min + i, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a valid number%s", f.name, text, suggest.Phrase(text, f.words))
	}
	if int(n) < f.min || int(n) > f.max {
		return 0, fmt.Errorf("%s %d must be from %d to %d", f.name, n, f.min, f.max)
	}
	return int(n), nil
}

// possible reports whether the days of month occur in the months.
func (c *cron) possible() bool {
	if !c.anyWeekday {
		return true // some day of the week comes in each month
	}
	longest := [13]int{1: 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	for m := 1; m <= 12; m++ {
		if c.months&(1<<m) != 0 && bits.TrailingZeros64(c.days) <= longest[m] {
			return true
		}
	}
	return false
}

func (c *cron) on(date time.Time) bool {
	if c.months&(1<<int(date.Month())) == 0 {
		return false
	}
	inMonth, inWeek := c.days&(1<<date.Day()) != 0, c.weekdays&(1<<int(date.Weekday())) != 0
	if c.anyDay || c.anyWeekday {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

// everyHour reports whether the schedule covers every hour: it is an interval then, and
// continues through the hour that occurs twice.
func (c *cron) everyHour() bool { return c.hours == 1<<24-1 }

// next returns the first instant after t that c names.
func (c *cron) next(t time.Time) time.Time {
	const limit = 45 * 366 // days; 29 February on one day of the week can take 40 years
	today := wallOf(t, c.loc).midnight()
	for range limit {
		if c.on(today.date()) {
			if at := c.nextOn(today, t); !at.IsZero() {
				if second := c.secondHour(t, at); !second.IsZero() {
					return second
				}
				return at
			}
		}
		today += day
	}
	return time.Time{}
}

// nextOn returns the first instant after t among today's, zero if there is none.
func (c *cron) nextOn(today wall, t time.Time) time.Time {
	latest := wall(63-bits.LeadingZeros64(c.minutes)) * minute
	for h := range wall(24) {
		if c.hours&(1<<h) == 0 || !(today + h*hour + latest).first(c.loc).After(t) {
			continue
		}
		for m := range wall(60) {
			if c.minutes&(1<<m) == 0 {
				continue
			}
			if at := (today + h*hour + m*minute).first(c.loc); at.After(t) {
				return at
			}
		}
	}
	return time.Time{}
}

// secondHour returns, for an expression that names every hour, the first instant after t
// and before limit in an hour that occurs for the second time; else zero.
func (c *cron) secondHour(t, limit time.Time) time.Time {
	if !c.everyHour() {
		return time.Time{}
	}
	for from := t.In(c.loc); ; {
		start, end := period(from)
		if !start.IsZero() {
			back := offset(start.Add(-time.Second), c.loc) - offset(start, c.loc)
			if at := c.scan(later(start.Add(-1), t), earlier(limit, start.Add(time.Duration(back)*time.Second))); !at.IsZero() {
				return at
			}
		}
		if end.IsZero() || !end.Before(limit) {
			return time.Time{}
		}
		from = end.In(c.loc)
	}
}

// scan tries each minute from after t to before limit.
func (c *cron) scan(t, limit time.Time) time.Time {
	if !t.Before(limit) {
		return time.Time{}
	}
	w := wallOf(t, c.loc)
	w -= w % minute
	for at := t.Add(-time.Duration(wallOf(t, c.loc)-w) * time.Second).Truncate(time.Second); at.Before(limit); at = at.Add(time.Minute) {
		now := wallOf(at, c.loc)
		if at.After(t) && c.minutes&(1<<(now%hour/minute)) != 0 && c.on(now.date()) {
			return at.In(c.loc)
		}
	}
	return time.Time{}
}

// gap returns the shortest time between two instants that c names on the clock.
func (c *cron) gap() time.Duration {
	shortest, first, before := 24*hour, wall(-1), wall(-1)
	for at := range wall(24 * 60) {
		if c.hours&(1<<(at/60)) == 0 || c.minutes&(1<<(at%60)) == 0 {
			continue
		}
		if before >= 0 {
			shortest = min(shortest, (at-before)*minute)
		} else {
			first = at
		}
		before = at
	}
	return time.Duration(min(shortest, day-(before-first)*minute)) * time.Second
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
