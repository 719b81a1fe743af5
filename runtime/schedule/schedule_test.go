package schedule

import (
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// at reads "2026-03-08 03:00 -0500".
func at(t testing.TB, text string) time.Time {
	t.Helper()
	out, err := time.Parse("2006-01-02 15:04 -0700", text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(t testing.TB, v any) *Schedule {
	t.Helper()
	s, err := Parse(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   any
		text string
	}{
		{"17 3 * * *", "17 3 * * *"},
		{" 17  3 * * * ", "17 3 * * *"},
		{"*/15 0-6,22-23 1-31/10 jan-mar,DEC sat-sun", "*/15 0-6,22-23 1-31/10 jan-mar,DEC sat-sun"},
		{"0 0 29 2 *", "0 0 29 2 *"},
		{"0 0 31 2 1", "0 0 31 2 1"}, // or Mondays
		{map[string]any{"cron": "17 3 * * *", "tz": "America/Chicago", "jitter": "30m"}, "17 3 * * * America/Chicago, jitter 30m"},
		{map[string]any{"every": "6h", "jitter": "10m"}, "every 6h, jitter 10m"},
		{map[string]any{"every": "1m"}, "every 1m"},
	} {
		if s := parse(t, tt.in); s.String() != tt.text {
			t.Errorf("%v: %s", tt.in, s)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   any
		says string
	}{
		{nil, "not nothing"},
		{17.0, "not 17"},
		{[]any{"17 3 * * *"}, "not a list"},
		{"", "0 fields"},
		{"17 3 * *", "4 fields"},
		{"0 17 3 * * *", "6 fields"},
		{"@daily", "1 fields"},
		{"60 3 * * *", "minute 60 must be from 0 to 59"},
		{"17 24 * * *", "hour 24 must be from 0 to 23"},
		{"17 3 0 * *", "day of month 0 must be from 1 to 31"},
		{"17 3 * 13 *", "month 13 must be from 1 to 12"},
		{"17 3 * * 8", "day of week 8 must be from 0 to 7"},
		{"17 3 * * mno", `did you mean "mon"?`},
		{"17 3 * * fri-mon", "is descending"},
		{"17 5-3 * * *", "is descending"},
		{"*/0 3 * * *", "is not a valid step"},
		{"*/90 3 * * *", "a step of 90 exceeds the range 0 to 59"},
		{"5/15 3 * * *", "expects * or a range"},
		{"1,,2 3 * * *", "is not a valid number"},
		{"-1 3 * * *", "is not a valid number"},
		{"? 3 * * *", "is not a valid number"},
		{"0 0 31 2 *", "never occurs"},
		{"0 0 30,31 2 *", "never occurs"},
		{"0 0 31 2,4,6,9,11 *", "never occurs"},
		{"17 3 * * " + strings.Repeat("1,", 200), "longer than"},
		{map[string]any{}, "either cron or every"},
		{map[string]any{"cron": "17 3 * * *", "every": "6h"}, "either cron or every"},
		{map[string]any{"corn": "17 3 * * *"}, `unknown key "corn", did you mean "cron"?`},
		{map[string]any{"cron": "17 3 * * *", "tz": "America/Chicgo"}, "is not a valid time zone"},
		{map[string]any{"cron": "17 3 * * *", "tz": "../../etc/passwd"}, "is not a valid time zone"},
		{map[string]any{"cron": "17 3 * * *", "tz": "Local"}, "is not a valid time zone"},
		{map[string]any{"cron": "17 3 * * *", "tz": ""}, "tz is empty"},
		{map[string]any{"cron": 17.0}, "cron must be a text, not 17"},
		{map[string]any{"every": "6h", "tz": "UTC"}, "tz goes with cron"},
		{map[string]any{"every": ""}, "not a valid duration"},
		{map[string]any{"every": "6 hours"}, "not a valid duration"},
		{map[string]any{"every": "59s"}, "a minute or more"},
		{map[string]any{"every": "0s"}, "a minute or more"},
		{map[string]any{"every": "6h", "jitter": "6h"}, "must be shorter than the time"},
		{map[string]any{"cron": "0,50 * * * *", "jitter": "10m"}, "must be shorter than the time from one run to the next, 10m0s"},
		{map[string]any{"cron": "17 3 * * *", "jitter": "24h"}, "must be shorter"},
	} {
		s, err := Parse(tt.in)
		var e *problem.Error
		if !errors.As(err, &e) || e.Kind != problem.Usage || e.Call != "schedule" || e.Hint == "" || !strings.Contains(e.Message, tt.says) {
			t.Errorf("%v: %v, %v; want %q", tt.in, s, err, tt.says)
		}
	}
	_, err := Parse("0 3 * * * America/Chicago")
	if e := problem.From(err); e.Hint != `schedule = { cron = "0 3 * * *", tz = "America/Chicago" }` {
		t.Errorf("hint: %s", e.Hint)
	}
}

// The moments after a given one, where clocks change.
func TestNext(t *testing.T) {
	for _, tt := range []struct {
		cron, zone, after string
		want              []string
	}{
		{"17 3 * * *", "UTC", "2026-11-03 03:16 +0000", []string{"2026-11-03 03:17 +0000", "2026-11-04 03:17 +0000"}},
		{"17 3 * * *", "UTC", "2026-11-03 03:17 +0000", []string{"2026-11-04 03:17 +0000"}},
		{"0 0 29 2 *", "UTC", "2096-03-01 00:00 +0000", []string{"2104-02-29 00:00 +0000"}},
		{"0 0 1 * 1", "UTC", "2026-11-01 00:00 +0000", []string{"2026-11-02 00:00 +0000", "2026-11-09 00:00 +0000"}},
		{"0 0 */2 * 1", "UTC", "2026-11-01 00:00 +0000", []string{"2026-11-09 00:00 +0000", "2026-11-23 00:00 +0000"}},
		{"0 12 * * 7", "UTC", "2026-11-01 12:00 +0000", []string{"2026-11-08 12:00 +0000"}},
		// 02:30 does not exist.
		{"30 2 * * *", "America/Chicago", "2026-03-07 12:00 -0600", []string{"2026-03-08 03:00 -0500", "2026-03-09 02:30 -0500"}},
		{"0,30 2,3 * * *", "America/Chicago", "2026-03-08 00:00 -0600", []string{"2026-03-08 03:00 -0500", "2026-03-08 03:30 -0500", "2026-03-09 02:00 -0500"}},
		{"*/20 * * * *", "America/Chicago", "2026-03-08 01:39 -0600", []string{"2026-03-08 01:40 -0600", "2026-03-08 03:00 -0500", "2026-03-08 03:20 -0500"}},
		// 01:30 comes twice.
		{"30 1 * * *", "America/Chicago", "2026-10-31 12:00 -0500", []string{"2026-11-01 01:30 -0500", "2026-11-02 01:30 -0600"}},
		{"30 1,2 * * *", "America/Chicago", "2026-11-01 01:30 -0500", []string{"2026-11-01 02:30 -0600"}},
		{"*/30 * * * *", "America/Chicago", "2026-11-01 01:00 -0500", []string{"2026-11-01 01:30 -0500", "2026-11-01 01:00 -0600", "2026-11-01 01:30 -0600", "2026-11-01 02:00 -0600"}},
		{"30 1 * * *", "Europe/Berlin", "2026-10-25 00:00 +0200", []string{"2026-10-25 01:30 +0200"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25 00:00 +0200", []string{"2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"}},
		// Half an hour.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00 +1030", []string{"2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100"}},
		// Midnight does not exist, a day does not exist.
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00 -0300", []string{"2018-11-04 01:00 -0200", "2018-11-05 00:00 -0200"}},
		{"0 12 30 12 *", "Pacific/Apia", "2011-12-29 12:00 -1000", []string{"2011-12-31 00:00 +1400", "2012-12-30 12:00 +1400"}},
		// Midnight comes twice.
		{"0 0 * * *", "America/Havana", "2026-10-31 12:00 -0400", []string{"2026-11-01 00:00 -0400", "2026-11-02 00:00 -0500"}},
	} {
		s, now := parse(t, map[string]any{"cron": tt.cron, "tz": tt.zone}), at(t, tt.after)
		for _, want := range tt.want {
			now = s.Next(now)
			if got := now.Format("2006-01-02 15:04 -0700"); got != want {
				t.Errorf("%s %s after %s: %s, want %s", tt.cron, tt.zone, tt.after, got, want)
				break
			}
		}
	}
	every := parse(t, map[string]any{"every": "6h"})
	if now := at(t, "2026-03-08 00:10 -0600"); !every.Next(now).Equal(now.Add(6 * time.Hour)) {
		t.Error("every 6h")
	}
}

// The zones, and for each a year in which its clock changes oddly. After 2037 the
// zones' rules count, not their tables.
var years = []struct {
	zone string
	year int
}{
	{"UTC", 2026},
	{"America/Chicago", 2026},
	{"Europe/Berlin", 2026},
	{"Australia/Lord_Howe", 2026},
	{"America/Havana", 2026},
	{"America/Sao_Paulo", 2018},
	{"Pacific/Apia", 2011},
	{"Asia/Kathmandu", 2026},
	{"Africa/Casablanca", 2026},
	{"Antarctica/Troll", 2026},
	{"America/St_Johns", 2006},
	{"Asia/Pyongyang", 2018},
	{"America/Chicago", 2044},
	{"Australia/Lord_Howe", 2044},
	{"America/Santiago", 2045},
	{"Asia/Kolkata", 2044},
}

// oddMinutes returns each minute of the first and last days of a year, and of the
// days around each change of its clock.
func oddMinutes(loc *time.Location, year int) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		begin := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		for now := begin; now.Year() == year; now = now.Add(time.Minute) {
			odd := now.YearDay() < 8 || now.YearDay() > 362 || offset(now.Add(-48*time.Hour), loc) != offset(now.Add(48*time.Hour), loc)
			if !odd {
				now = now.Add(12*time.Hour - time.Minute)
			} else if !yield(now) {
				return
			}
		}
	}
}

// Next against a clock on the wall that is read every minute.
func TestNextAgainstWall(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	pick := func(n uint64, chance int) (set uint64) {
		for i := range n {
			if r.IntN(chance) == 0 {
				set |= 1 << i
			}
		}
		return set | 1<<r.Uint64N(n)
	}
	for _, y := range years {
		name, year, loc := y.zone, y.year, zone(t, y.zone)
		for i := range 6 {
			c := &cron{minutes: pick(60, 20), hours: pick(24, 6), days: pick(32, 4), months: 1<<13 - 1, weekdays: pick(7, 3), loc: loc, anyWeekday: i%2 == 0, anyDay: i%3 == 0}
			if i == 5 {
				c.hours = 1<<24 - 1
			}
			matches := func(w int64) bool {
				d := time.Unix(w, 0).UTC()
				return c.minutes&(1<<d.Minute()) != 0 && c.hours&(1<<d.Hour()) != 0 && c.on(d)
			}
			var next, before time.Time
			var latest int64
			for now := range oddMinutes(loc, year) {
				w, due := int64(wallOf(now, loc)), false
				if now.Sub(before) > time.Minute { // the first of some days
					next, latest, before = c.next(now), w, now
					continue
				}
				before = now
				if w > latest {
					for missed := latest + 60; missed <= w; missed += 60 {
						due = due || matches(missed)
					}
					latest = w
				} else if c.everyHour() {
					due = matches(w)
				}
				if due != now.Equal(next) {
					t.Fatalf("%s, %+v: at %s due is %v, Next said %s", name, c, now.In(loc), due, next)
				}
				if due {
					next = c.next(now)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("17 3 * * *", "America/Chicago", "", "30m")
	f.Add("", "", "6h", "10m")
	f.Add("*/7 1-5/2 29 feb sun", "Pacific/Apia", "", "")
	f.Fuzz(func(t *testing.T, cron, tz, every, jitter string) {
		table := map[string]any{}
		for key, value := range map[string]string{"cron": cron, "tz": tz, "every": every, "jitter": jitter} {
			if value != "" {
				table[key] = value
			}
		}
		s, err := Parse(table)
		if err != nil {
			return
		}
		now := time.Date(2026, 2, 27, 0, 0, 0, 0, time.UTC)
		for range 5 {
			next := s.Next(now)
			if !next.After(now) {
				t.Fatalf("%s: after %s comes %s", s, now, next)
			}
			now = next
		}
	})
}
