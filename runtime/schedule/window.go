package schedule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// Window says when a playbook may change anything. A nil *Window is always open.
// It is immutable.
//
// It is open while the wall clock of its zone shows a time in it: when clocks are set back,
// both times that such a time occurs.
type Window struct {
	spans []span
	minus *Blackouts
	text  string
}

// Opening is a stretch of time: from Opens until before Closes.
type Opening struct {
	Opens, Closes time.Time
}

// ParseWindow reads a playbook's window in this machine's time zone: see
// [Parser.ParseWindow].
func ParseWindow(v any) (*Window, error) { return new(Parser).ParseWindow(v) }

// ParseWindow reads a window: "[days] [HH:MM-HH:MM] [zone]", or a list of such.
// Days are as in "Mon-Fri" or "Sat,Sun", each day if none is named; a span that ends
// before it starts includes midnight; without times it is the whole day. Errors are
// *problem.Error of kind usage.
func (p *Parser) ParseWindow(v any) (*Window, error) {
	all, err := texts(v)
	if err == nil && len(all) == 0 {
		err = errors.New("is empty: it would never open")
	}
	w := &Window{text: strings.Join(all, "; ")}
	for _, text := range all {
		var s span
		if s, err = p.span(text); err != nil {
			break
		}
		w.spans = append(w.spans, s)
	}
	if err != nil {
		return nil, refuse("window", err, `window = "Sat,Sun 22:00-05:00 America/Chicago", or a list of such`)
	}
	return w, nil
}

// String returns it on one line.
func (w *Window) String() string {
	if w == nil || len(w.spans) == 0 {
		return "always"
	}
	return w.text
}

// Without returns w without what the blackouts cover.
func (w *Window) Without(b *Blackouts) *Window {
	if w == nil {
		w = &Window{}
	}
	return &Window{spans: w.spans, minus: w.minus.plus(b), text: w.text}
}

// Open reports whether t is in the window.
func (w *Window) Open(t time.Time) bool { return len(w.Slots(t, t.Add(1))) > 0 }

// forever is when a window counts as never closing, if it does not close for so long, or
// as never opening.
const forever = 4 * 366 * 24 * time.Hour

// Next returns when the window opens next, t itself if it is open then, and when it then
// closes. closes is zero if it stays open for years; both are if it does not open for
// years.
func (w *Window) Next(t time.Time) (opens, closes time.Time) {
	for _, ahead := range []time.Duration{9 * 24 * time.Hour, 70 * 24 * time.Hour, forever} {
		limit := t.Add(ahead)
		slots := w.Slots(t, limit)
		if len(slots) == 0 {
			continue
		}
		if slots[0].Closes.Before(limit) {
			return slots[0].Opens, slots[0].Closes
		}
		opens = slots[0].Opens
	}
	return opens, time.Time{}
}

// Check refuses a window that blackouts leave no opening in the years after now.
func (w *Window) Check(now time.Time) error {
	if opens, _ := w.Next(now); opens.IsZero() {
		return &problem.Error{Kind: problem.Usage, Call: "window", Message: "the window " + w.String() + " never opens: blackouts cover all of it"}
	}
	return nil
}

// Slots returns the parts of the window between from and to, in order; adjacent ones are
// merged.
func (w *Window) Slots(from, to time.Time) []Opening {
	if !from.Before(to) {
		return nil
	}
	open := []Opening{{from, to}}
	if w == nil {
		return open
	}
	if len(w.spans) > 0 {
		open = nil
		for _, s := range w.spans {
			open = append(open, s.within(from, to)...)
		}
	}
	return clip(subtract(merge(open), w.minus.within(from, to)), from, to)
}

// span is one text of a window.
type span struct {
	days     [7]bool // by time.Weekday
	from, to wall    // since midnight; to is more than a day where it is on the next
	loc      *time.Location
}

var timesForm = regexp.MustCompile(`^(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)$`)

func (p *Parser) span(text string) (span, error) {
	s := span{days: [7]bool{true, true, true, true, true, true, true}, to: day}
	rest := strings.Fields(text)
	if len(rest) == 0 {
		return s, errors.New("is empty: it would never open")
	}
	if strings.Contains(rest[0], "/") {
		return s, fmt.Errorf("%s expects days or times before the zone", quote(text))
	}
	var err error
	if c := rest[0]; !strings.ContainsAny(c, "0123456789:") {
		if s.days, err = days(c); err != nil {
			return s, fmt.Errorf("%s: %w", quote(text), err)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 && strings.ContainsAny(rest[0][:1], "0123456789") {
		if s.from, s.to, err = times(rest[0]); err != nil {
			return s, fmt.Errorf("%s: %w", quote(text), err)
		}
		rest = rest[1:]
	}
	if len(rest) > 1 {
		return s, fmt.Errorf("%s: more text follows the zone %s", quote(text), quote(rest[0]))
	}
	if s.loc, err = p.zone(strings.Join(rest, "")); err != nil {
		return s, fmt.Errorf("%s: %w", quote(text), err)
	}
	return s, nil
}

// days reads "Mon-Fri", "Sat,Sun", "Fri-Mon".
func days(text string) (set [7]bool, err error) {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		from, err := weekday(low)
		if err != nil {
			return set, err
		}
		to := from
		if ranged {
			if to, err = weekday(high); err != nil {
				return set, err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			set[d] = true
			if d == to {
				break
			}
		}
	}
	return set, nil
}

func weekday(text string) (int, error) {
	names := []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, text) })
	if i < 0 {
		return 0, fmt.Errorf("%s is not a valid day%s", quote(text), suggest.Phrase(text, names))
	}
	return i, nil
}

// times reads "22:00-05:00".
func times(text string) (from, to wall, err error) {
	m := timesForm.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("%s is not a valid time span, such as 22:00-05:00", quote(text))
	}
	var n [4]wall
	for i := range n {
		v, _ := strconv.Atoi(m[i+1]) // two digits
		n[i] = wall(v)
	}
	from, to = n[0]*hour+n[1]*minute, n[2]*hour+n[3]*minute
	switch {
	case n[1] > 59 || n[3] > 59 || from >= day || to > day:
		return 0, 0, fmt.Errorf("%s must be two times of day, such as 22:00-05:00", quote(text))
	case from == to:
		return 0, 0, fmt.Errorf("%s never opens; 00:00-24:00 is the whole day", quote(text))
	case to < from:
		to += day
	}
	return from, to, nil
}

// within returns the openings that touch from to to: all instants at which the
// zone's clock shows a time of the span.
func (s span) within(from, to time.Time) []Opening {
	var out []Opening
	end := wallOf(to, s.loc) + day
	for today := wallOf(from, s.loc).midnight() - 2*day; today <= end; today += day {
		if s.days[today.date().Weekday()] {
			out = append(out, (today+s.from).until(today+s.to, s.loc)...)
		}
	}
	return out
}
