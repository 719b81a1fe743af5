package schedule

import (
	"fmt"
	"time"
)

// Choice is the slot of a window in which a renewal starts.
type Choice struct {
	Opening
	At   time.Time // when to start; zero if the window never opens
	Left int       // whole slots that follow it before expiry

	// Warning is why this slot is bad, in words for users: fewer than two more follow
	// before expiry, or it is after expiry. "" if it is good.
	Warning string
}

// spare is how many more slots should follow before expiry: a renewal that fails has two
// more attempts.
const spare = 2

// room is how much of a slot should be left to work in, if it is that long.
const room = 4 * time.Hour

// Slot is the rule for windows: the last slot that opens by due, the moment that the CA or
// renew_before asks for, and still leaves two more before expiry. If there is none it is
// the first slot, and if fewer than two are left it has a warning. A slot that is longer
// than a day counts once for each day. nil for w is always open, nil for b has no
// blackouts; a zero due is now, a zero expiry is never.
func Slot(w *Window, b *Blackouts, now, due, expiry time.Time) Choice {
	w = w.Without(b)
	horizon := now.Add(forever)
	due = earlier(later(due, now), horizon)
	limit := horizon
	if !expiry.IsZero() {
		limit = earlier(expiry, horizon)
	}
	parts := w.parts(now, limit)
	whole := len(parts)
	if whole > 0 && parts[whole-1].cut(limit) && w.Open(limit) {
		whole--
	}
	best := -1
	for i, p := range parts {
		if i == 0 || (!p.Opens.After(due) && whole-1-i >= spare) {
			best = i
		}
	}
	if best < 0 {
		return w.tooLate(now, expiry)
	}
	c := Choice{Opening: parts[best].Opening, Left: max(0, whole-1-best)}
	c.At = later(c.Opens, earlier(earlier(due, c.Closes), parts[best].end.Add(-room)))
	if c.Left < spare && !expiry.IsZero() {
		c.Warning = fmt.Sprintf("only %d more %s after this one before expiry on %s", c.Left, plural(c.Left), expiry.Format(time.DateOnly))
	}
	return c
}

// tooLate returns the choice if no slot is before expiry.
func (w *Window) tooLate(now, expiry time.Time) Choice {
	opens, closes := w.Next(now)
	if opens.IsZero() {
		return Choice{Warning: "the window " + w.String() + " never opens: blackouts cover all of it"}
	}
	return Choice{Opening: Opening{opens, closes}, At: opens, Warning: fmt.Sprintf(
		"no slot before expiry on %s; the window next opens on %s", expiry.Format(time.DateOnly), opens.Format(time.DateOnly+" 15:04 MST"))}
}

func plural(n int) string {
	if n == 1 {
		return "slot comes"
	}
	return "slots come"
}

// part is a slot, or a day of one that is longer.
type part struct {
	Opening
	end time.Time // when the whole slot closes
}

// cut reports whether limit may have ended p early.
func (p part) cut(limit time.Time) bool {
	return !p.Closes.Before(limit) && p.Closes.Sub(p.Opens) < 24*time.Hour
}

func (w *Window) parts(from, to time.Time) []part {
	var out []part
	for _, slot := range w.Slots(from, to) {
		for at := slot.Opens; at.Before(slot.Closes); at = at.Add(24 * time.Hour) {
			out = append(out, part{Opening{at, earlier(slot.Closes, at.Add(24*time.Hour))}, slot.Closes})
		}
	}
	return out
}
