package schedule

import (
	"slices"
	"time"
)

// merge sorts openings and joins those that touch.
func merge(in []Opening) []Opening {
	slices.SortFunc(in, func(a, b Opening) int { return a.Opens.Compare(b.Opens) })
	var out []Opening
	for _, o := range in {
		if n := len(out); n > 0 && !o.Opens.After(out[n-1].Closes) {
			out[n-1].Closes = later(out[n-1].Closes, o.Closes)
			continue
		}
		out = append(out, o)
	}
	return out
}

// subtract subtracts minus from in; both are merged.
func subtract(in, minus []Opening) []Opening {
	if len(minus) == 0 {
		return in
	}
	var out []Opening
	for _, o := range in {
		for len(minus) > 0 && !minus[0].Closes.After(o.Opens) {
			minus = minus[1:]
		}
		for _, m := range minus {
			if !m.Opens.Before(o.Closes) {
				break
			}
			if o.Opens.Before(m.Opens) {
				out = append(out, Opening{o.Opens, m.Opens})
			}
			o.Opens = later(o.Opens, m.Closes)
		}
		if o.Opens.Before(o.Closes) {
			out = append(out, o)
		}
	}
	return out
}

// clip returns the parts between from and to.
func clip(in []Opening, from, to time.Time) []Opening {
	var out []Opening
	for _, o := range in {
		o.Opens, o.Closes = later(o.Opens, from), earlier(o.Closes, to)
		if o.Opens.Before(o.Closes) {
			out = append(out, o)
		}
	}
	return out
}
