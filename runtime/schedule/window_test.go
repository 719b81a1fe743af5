package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

func window(t testing.TB, v any) *Window {
	t.Helper()
	w, err := ParseWindow(v)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func blackouts(t testing.TB, v any) *Blackouts {
	t.Helper()
	b, err := ParseBlackouts(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func show2(slots []Opening, loc *time.Location) string {
	var out []string
	for _, s := range slots {
		out = append(out, fmt.Sprintf("%s - %s", s.Opens.In(loc).Format("02 15:04 MST"), s.Closes.In(loc).Format("02 15:04 MST")))
	}
	return strings.Join(out, ", ")
}

// What a window holds of some days.
func TestWindowSlots(t *testing.T) {
	for _, tt := range []struct {
		window, blackouts any
		zone, from, to    string
		want              string
	}{
		{
			"Sat,Sun 22:00-05:00 America/Chicago", nil, "America/Chicago", "2026-09-03 00:00 -0500", "2026-09-10 00:00 -0500",
			"05 22:00 CDT - 06 05:00 CDT, 06 22:00 CDT - 07 05:00 CDT",
		},
		{"Mon-Fri 01:00-03:00 UTC", nil, "UTC", "2026-09-04 00:00 +0000", "2026-09-08 00:00 +0000", "04 01:00 UTC - 04 03:00 UTC, 07 01:00 UTC - 07 03:00 UTC"},
		{"fri-mon 1:00-3:00 UTC", nil, "UTC", "2026-09-02 00:00 +0000", "2026-09-05 00:00 +0000", "04 01:00 UTC - 04 03:00 UTC"},
		{"22:00-24:00 UTC", nil, "UTC", "2026-09-02 23:00 +0000", "2026-09-04 00:00 +0000", "02 23:00 UTC - 03 00:00 UTC, 03 22:00 UTC - 04 00:00 UTC"},
		{"Sat-Sun UTC", nil, "UTC", "2026-09-02 23:00 +0000", "2026-09-09 00:00 +0000", "05 00:00 UTC - 07 00:00 UTC"},
		{"Mon-Sun UTC", nil, "UTC", "2026-09-02 23:00 +0000", "2026-09-09 00:00 +0000", "02 23:00 UTC - 09 00:00 UTC"},
		{[]any{"Sat 01:00-03:00 UTC", "Sat 02:00-04:00 UTC", "Sat 04:00-05:00 UTC"}, nil, "UTC", "2026-09-02 23:00 +0000", "2026-09-09 00:00 +0000", "05 01:00 UTC - 05 05:00 UTC"},
		// Two zones at once.
		{[]any{"Sat 22:00-23:00 America/Chicago", "Sun 03:00-05:00 UTC"}, nil, "UTC", "2026-09-02 00:00 +0000", "2026-09-09 00:00 +0000", "06 03:00 UTC - 06 05:00 UTC"},
		// The clock goes from 02:00 to 03:00 on 8 March, and back from 02:00 to 01:00 on 1 November.
		{"Sun 01:00-04:00 America/Chicago", nil, "America/Chicago", "2026-03-08 00:00 -0600", "2026-03-09 00:00 -0500", "08 01:00 CST - 08 04:00 CDT"},
		{"Sun 02:15-02:45 America/Chicago", nil, "America/Chicago", "2026-03-08 00:00 -0600", "2026-03-09 00:00 -0500", ""},
		{"Sun 02:30-04:00 America/Chicago", nil, "America/Chicago", "2026-03-08 00:00 -0600", "2026-03-09 00:00 -0500", "08 03:00 CDT - 08 04:00 CDT"},
		{"Sun 00:00-04:00 America/Chicago", nil, "America/Chicago", "2026-11-01 00:00 -0500", "2026-11-02 00:00 -0600", "01 00:00 CDT - 01 04:00 CST"},
		{
			"Sat 22:00-01:30 America/Chicago", nil, "America/Chicago", "2026-10-31 00:00 -0500", "2026-11-02 00:00 -0600",
			"31 22:00 CDT - 01 01:30 CDT, 01 01:00 CST - 01 01:30 CST",
		},
		{"Mon-Sun America/Havana", nil, "America/Havana", "2026-10-30 00:00 -0400", "2026-11-03 00:00 -0500", "30 00:00 CDT - 03 00:00 CST"},
		// Less blackouts.
		{"Sat 01:00-05:00 UTC", "2026-09-05", "UTC", "2026-09-02 00:00 +0000", "2026-09-13 00:00 +0000", "12 01:00 UTC - 12 05:00 UTC"},
		{"Sat 01:00-05:00 UTC", "2026-09-05T02:00..2026-09-05T03:00 UTC", "UTC", "2026-09-02 00:00 +0000", "2026-09-09 00:00 +0000", "05 01:00 UTC - 05 02:00 UTC, 05 03:00 UTC - 05 05:00 UTC"},
		{"Sat 01:00-05:00 UTC", []any{"00:00-02:00 UTC", "Sat 04:30-06:00 UTC", "2026-09-01..2026-09-02"}, "UTC", "2026-09-02 00:00 +0000", "2026-09-09 00:00 +0000", "05 02:00 UTC - 05 04:30 UTC"},
		{nil, []string{"2026-12-20..2027-01-06 America/Chicago"}, "America/Chicago", "2026-12-19 00:00 -0600", "2027-01-08 00:00 -0600", "19 00:00 CST - 20 00:00 CST, 07 00:00 CST - 08 00:00 CST"},
		{nil, nil, "UTC", "2026-09-02 00:00 +0000", "2026-09-09 00:00 +0000", "02 00:00 UTC - 09 00:00 UTC"},
	} {
		p := &Parser{Local: time.UTC}
		var w *Window
		if tt.window != nil {
			var err error
			if w, err = p.ParseWindow(tt.window); err != nil {
				t.Fatal(err)
			}
		}
		b, err := p.ParseBlackouts(tt.blackouts)
		if err != nil {
			t.Fatal(err)
		}
		got := w.Without(b).Slots(at(t, tt.from), at(t, tt.to))
		if text := show2(got, zone(t, tt.zone)); text != tt.want {
			t.Errorf("%v less %v:\n got %s\nwant %s", tt.window, tt.blackouts, text, tt.want)
		}
	}
}

func TestWindowRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   any
		says string
	}{
		{nil, "not nothing"},
		{map[string]any{}, "not a table"},
		{[]any{}, "never open"},
		{[]any{1.0}, "not of 1"},
		{"", "never open"},
		{"America/Chicago", "expects days or times"},
		{"Sat 22:00-22:00", "never opens; 00:00-24:00"},
		{"Sat 24:00-24:00", "must be two times of day"},
		{"Sat 24:00-02:00", "must be two times of day"},
		{"Sat 22:60-23:00", "must be two times of day"},
		{"Sat 22:00-25:00", "must be two times of day"},
		{"Sat 22-23", "is not a valid time span"},
		{"Sat 22:00 - 23:00", "is not a valid time span"},
		{"Sta 22:00-23:00", `"Sta" is not a valid day, did you mean "Sat"?`},
		{"Sat, 22:00-23:00", "is not a valid day"},
		{"Sat 22:00-23:00 America/Chicgo", "is not a valid time zone"},
		{"Sat 22:00-23:00 UTC UTC", "more text follows the zone"},
		{strings.Repeat("Sat ", 100), "longer than"},
		{make([]any, 101), "not of nothing"},
	} {
		w, err := ParseWindow(tt.in)
		var e *problem.Error
		if !errors.As(err, &e) || e.Kind != problem.Usage || e.Call != "window" || e.Hint == "" || !strings.Contains(e.Message, tt.says) {
			t.Errorf("%v: %v, %v; want %q", tt.in, w, err, tt.says)
		}
	}
}

func TestBlackoutsRefuse(t *testing.T) {
	for in, says := range map[string]string{
		"2026-12-20..2026-12-19":             "ends before it begins",
		"2026-12-20T08:00..2026-12-20T08:00": "ends before it begins",
		"2026-13-20":                         "is not a valid date",
		"2026-12-20..":                       "is not a valid date",
		"2026-12-20..2027-01-06 Mars/Base":   "is not a valid time zone",
		"2026-12-20 UTC UTC":                 "more text follows the zone",
		"20.12.2026":                         "is not a valid time span",
	} {
		if b, err := ParseBlackouts(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; want %q", in, b, err, says)
		}
	}
}

func TestWindowNext(t *testing.T) {
	w, sat := window(t, "Sat 22:00-23:00 UTC"), at(t, "2026-09-05 22:00 +0000")
	for _, tt := range []struct {
		w             *Window
		at            time.Time
		opens, closes time.Time
	}{
		{w, sat.Add(-time.Hour), sat, sat.Add(time.Hour)},
		{w, sat.Add(30 * time.Minute), sat.Add(30 * time.Minute), sat.Add(time.Hour)},
		{w, sat.Add(time.Hour), sat.AddDate(0, 0, 7), sat.AddDate(0, 0, 7).Add(time.Hour)},
		{w.Without(blackouts(t, "2026-09-01..2027-08-31 UTC")), sat, at(t, "2027-09-04 22:00 +0000"), at(t, "2027-09-04 23:00 +0000")},
		{w.Without(blackouts(t, "Fri-Mon UTC")), sat, time.Time{}, time.Time{}},
		{nil, sat, sat, time.Time{}},
		{window(t, "Mon-Sun UTC"), sat, sat, time.Time{}},
		{(*Window)(nil).Without(blackouts(t, "2026-09-01..2026-09-05 UTC")), sat, sat.Add(2 * time.Hour), time.Time{}},
		{(*Window)(nil).Without(blackouts(t, "2026-10-01 UTC")), sat, sat, at(t, "2026-10-01 00:00 +0000")},
	} {
		opens, closes := tt.w.Next(tt.at)
		if !opens.Equal(tt.opens) || !closes.Equal(tt.closes) {
			t.Errorf("%s at %s: %s - %s", tt.w, tt.at, opens, closes)
		}
		if tt.w.Open(tt.at) != tt.at.Equal(tt.opens) {
			t.Errorf("%s at %s: open %v", tt.w, tt.at, tt.w.Open(tt.at))
		}
		if err := tt.w.Check(tt.at); (err != nil) != tt.opens.IsZero() {
			t.Errorf("%s: %v", tt.w, err)
		}
	}
}

// A window is open where the clock on the wall shows a time in it.
func TestWindowAgainstWall(t *testing.T) {
	for _, y := range years {
		name, year, loc := y.zone, y.year, zone(t, y.zone)
		for _, text := range []string{"22:00-01:30", "Sun 00:30-02:15", "Fri-Sun"} {
			w := window(t, text+" "+name)
			s := w.spans[0]
			slots := w.Slots(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC))
			for now := range oddMinutes(loc, year) {
				clock := wallOf(now, loc)
				inside := false
				for _, day := range []wall{clock.midnight(), clock.midnight() - day} {
					inside = inside || s.days[day.date().Weekday()] && clock-day >= s.from && clock-day < s.to
				}
				for len(slots) > 0 && !slots[0].Closes.After(now) {
					slots = slots[1:]
				}
				if open := len(slots) > 0 && !slots[0].Opens.After(now); open != inside {
					t.Fatalf("%s at %s: open is %v", w, now.In(loc), open)
				}
			}
		}
	}
}

func TestSlot(t *testing.T) {
	const weekly = "Sat 22:00-05:00 UTC"
	sat := at(t, "2026-09-05 22:00 +0000") // a Saturday
	week := func(n int) time.Time { return sat.AddDate(0, 0, 7*n) }
	now := sat.Add(-48 * time.Hour)
	for _, tt := range []struct {
		name           string
		window         any
		blackouts      any
		now            time.Time
		wanted, expiry time.Time
		opens, at      time.Time
		left           int
		warns          string
	}{
		{"the last before", weekly, nil, now, week(3).Add(-time.Hour), week(8), week(2), week(2).Add(3 * time.Hour), 5, ""},
		{"wanted in a slot", weekly, nil, now, week(3).Add(time.Hour), week(8), week(3), week(3).Add(time.Hour), 4, ""},
		{"wanted late in a slot", weekly, nil, now, week(3).Add(6 * time.Hour), week(8), week(3), week(3).Add(3 * time.Hour), 4, ""},
		{"two more must be left", weekly, nil, now, week(5).Add(-time.Hour), week(5), week(2), week(2).Add(3 * time.Hour), 2, ""},
		{"a slot that expiry cuts is none", weekly, nil, now, week(5), week(5).Add(time.Hour), week(2), week(2).Add(3 * time.Hour), 2, ""},
		{"one more is left", weekly, nil, now, week(9), week(2), week(0), week(0).Add(3 * time.Hour), 1, "only 1 more slot comes"},
		{"none is left", weekly, nil, now, week(9), week(1), week(0), week(0).Add(3 * time.Hour), 0, "only 0 more slots come"},
		{"wanted is past", weekly, nil, now, now.AddDate(0, 0, -9), week(8), week(0), week(0), 7, ""},
		{"now is in a slot", weekly, nil, sat.Add(time.Hour), now, week(8), sat.Add(time.Hour), sat.Add(time.Hour), 7, ""},
		{"no slot before expiry", weekly, nil, now, now, now.Add(time.Hour), week(0), week(0), 0, "no slot before expiry on 2026-09-03; the window next opens on 2026-09-05 22:00 UTC"},
		{"expired", weekly, nil, now, now, now.Add(-time.Hour), week(0), week(0), 0, "no slot before expiry"},
		{"never", weekly, "Sat-Sun UTC", now, now, week(8), time.Time{}, time.Time{}, 0, "never opens"},
		{"a blackout takes slots", weekly, "2026-09-12..2026-09-27 UTC", now, week(3), week(8), week(0), week(0).Add(3 * time.Hour), 4, ""},
		{"no expiry known", weekly, nil, now, week(3), time.Time{}, week(3), week(3), 205, ""},
		{"always open", nil, nil, now, now.AddDate(0, 0, 20).Add(time.Hour), now.AddDate(0, 0, 30), now.AddDate(0, 0, 20), now.AddDate(0, 0, 20).Add(time.Hour), 9, ""},
		{"always open, wanted past", nil, nil, now, time.Time{}, now.AddDate(0, 0, 30), now, now, 29, ""},
		{"always open, a blackout at wanted", nil, "2026-09-13..2026-09-20 UTC", sat.Add(-22 * time.Hour), week(2), week(4), at(t, "2026-09-12 00:00 +0000"), at(t, "2026-09-12 20:00 +0000"), 12, ""},
	} {
		var w *Window
		if tt.window != nil {
			w = window(t, tt.window)
		}
		c := Slot(w, blackouts(t, tt.blackouts), tt.now, tt.wanted, tt.expiry)
		if !c.Opens.Equal(tt.opens) || !c.At.Equal(tt.at) || c.Left != tt.left || !strings.Contains(c.Warning, tt.warns) || tt.warns == "" && c.Warning != "" {
			t.Errorf("%s:\n got %s at %s, left %d, %q\nwant %s at %s, left %d", tt.name, c.Opens, c.At, c.Left, c.Warning, tt.opens, tt.at, tt.left)
		}
		if !c.At.IsZero() && !w.Without(blackouts(t, tt.blackouts)).Open(c.At) {
			t.Errorf("%s: %s is outside the window", tt.name, c.At)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add("Sat,Sun 22:00-05:00 America/Chicago", "2026-12-20..2027-01-06")
	f.Add("Mon-Fri 01:00-03:00", "Fri-Mon 00:00-24:00 Pacific/Apia")
	f.Add("UTC", "2026-12-20T18:00..2027-01-06T08:00 UTC")
	f.Fuzz(func(t *testing.T, text, black string) {
		b, err := ParseBlackouts(black)
		if err != nil {
			return
		}
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		w = w.Without(b)
		now := time.Date(2026, 10, 30, 0, 0, 0, 0, time.UTC)
		opens, closes := w.Next(now)
		if opens.IsZero() {
			return
		}
		if opens.Before(now) || !w.Open(opens) || !closes.IsZero() && (!closes.After(opens) || w.Open(closes) || !w.Open(closes.Add(-time.Nanosecond))) {
			t.Fatalf("%s less %s: %s - %s", text, black, opens, closes)
		}
		if c := Slot(w, nil, now, now.AddDate(0, 0, 30), now.AddDate(0, 0, 60)); !w.Open(c.At) {
			t.Fatalf("%s less %s: %s is outside", text, black, c.At)
		}
	})
}
