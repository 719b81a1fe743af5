package daemon

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
)

// book is a playbook of the day, with what the test needs to know about it
// without asking what is tested.
type book struct {
	script
	zone   string
	hours  []int // nil: each, which is an interval
	minute int
	jitter time.Duration
	every  time.Duration // in place of hours and minute
	opens  int           // hours of its window, in its zone; 0, 0: always open
	closes int
}

// edition is a book from some moment on; nil: there is none.
type edition struct {
	from time.Time
	book *book
}

// day is a day in the life of a daemon with 200 playbooks.
type day struct {
	*house
	begin, end time.Time
	editions   map[string][]edition
	down       [][2]time.Time // when there was no daemon
}

var zones = []string{"America/Chicago", "Europe/Berlin", "UTC", "Asia/Kolkata"}

// TestDay lives through a day on which clocks change in Chicago: schedules of all
// kinds, windows, reloads, and two times without a daemon.
func TestDay(t *testing.T) {
	for name, begin := range map[string]time.Time{
		"forward": time.Date(2026, 3, 8, 0, 0, 30, 0, time.UTC),  // 02:00 CST is 03:00 CDT, at 08:00 UTC
		"back":    time.Date(2026, 11, 1, 0, 0, 30, 0, time.UTC), // 02:00 CDT is 01:00 CST, at 07:00 UTC
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &day{house: newHouse(t, begin), begin: begin, end: begin.Add(24 * time.Hour), editions: map[string][]edition{}}
			d.live()
			d.sound()
			d.everyRunOnce()
			d.everySlotOnce()
			d.askedFor()
			d.insideWindows()
		})
	}
}

func (d *day) live() {
	d.firstBooks()
	d.start()
	d.to(d.begin.Add(3 * time.Hour))
	d.changeSome()
	d.to(d.begin.Add(6*time.Hour + 29*time.Minute))
	d.crashInFlight(d.begin.Add(6*time.Hour+30*time.Minute), d.begin.Add(8*time.Hour+20*time.Minute))
	d.to(d.begin.Add(12 * time.Hour))
	d.fixSome()
	d.to(d.begin.Add(15*time.Hour + 29*time.Minute))
	d.crashInFlight(d.begin.Add(15*time.Hour+30*time.Minute), d.begin.Add(15*time.Hour+50*time.Minute))
	d.to(d.end)
	d.check(d.daemon.Pause(d.t.Context(), "alice", api.PauseRequest{Paused: true}))
	d.to(d.end.Add(24 * time.Hour)) // until the last window has opened
	d.idle()
}

// firstBooks are of four zones, at all hours.
func (d *day) firstBooks() {
	for i := range playbooks {
		b := &book{zone: zones[i%len(zones)], hours: []int{(i * 7) % 24}, minute: (i * 13) % 60}
		switch i % 10 {
		case 1:
			b.hours = []int{b.hours[0] % 4, b.hours[0]%4 + 8, b.hours[0]%4 + 16}
		case 2: // in the hour that does not come, or comes twice
			b.zone, b.hours = "America/Chicago", []int{1 + i/10%2}
		case 3:
			b.jitter = 20 * time.Minute
		case 4, 5:
			b.opens, b.closes = 22, 5
		case 6:
			b.hours, b.every = nil, 6*time.Hour
		case 7:
			b.hours, b.minute, b.Next = []int{1}, i%60, "5h"
			b.zone = "UTC"
		case 8:
			if i < playbooks/5 {
				b.hours = nil
			}
		case 9: // due at the moment of the kill
			if i < playbooks/2 {
				b.zone, b.hours, b.minute = "UTC", []int{6, 15}, 30
				b.Locks = []string{fmt.Sprintf("cluster:%d", i%20)}
			}
		}
		d.publish(fmt.Sprintf("book%03d", i), b)
	}
}

// publish writes a book's script.
func (d *day) publish(name string, b *book) {
	b.Schedule = map[string]any{"cron": fmt.Sprintf("%d %s * * *", b.minute, b.cronHours()), "tz": b.zone}
	if b.every > 0 {
		b.Schedule = map[string]any{"every": b.every.String(), "jitter": "5m"}
	}
	if b.jitter > 0 {
		b.Schedule.(map[string]any)["jitter"] = b.jitter.String()
	}
	if b.opens != b.closes {
		b.Window = fmt.Sprintf("%02d:00-%02d:00 %s", b.opens, b.closes, b.zone)
	}
	d.script(name, b.script)
	d.editions[name] = append(d.editions[name], edition{d.clock.Now(), b})
}

func (b *book) cronHours() string {
	if b.hours == nil {
		return "*"
	}
	var all []string
	for _, h := range b.hours {
		all = append(all, fmt.Sprint(h))
	}
	return strings.Join(all, ",")
}

// changeSome changes, breaks and adds scripts, and lets the daemon know.
func (d *day) changeSome() {
	for i := 0; i < playbooks; i += 10 {
		old := d.editions[fmt.Sprintf("book%03d", i)][0].book
		d.publish(fmt.Sprintf("book%03d", i), &book{zone: old.zone, hours: []int{(old.hours[0] + 5) % 24}, minute: old.minute})
	}
	for i := 1; i < playbooks/2; i += 10 {
		d.file(fmt.Sprintf("book%03d.lua", i), "half a script") // its last good version continues
		d.publish(fmt.Sprintf("fresh%03d", i), &book{zone: "UTC", hours: []int{i % 24, (i + 11) % 24}, minute: i % 60})
	}
	d.reload()
	if n := len(d.daemon.reload.Current().Problems); n != playbooks/20 {
		d.t.Errorf("%d problems, want %d", n, playbooks/20)
	}
}

// fixSome fixes and removes scripts.
func (d *day) fixSome() {
	for i := 1; i < playbooks/2; i += 10 {
		d.publish(fmt.Sprintf("book%03d", i), &book{zone: "UTC", hours: []int{14, 18, 23}, minute: i % 60})
	}
	for i := 8; i < playbooks; i += 50 {
		name := fmt.Sprintf("book%03d", i)
		d.check(os.Remove(filepath.Join(d.cfg.Scripts, name+".lua")))
		d.editions[name] = append(d.editions[name], edition{from: d.clock.Now()})
	}
	d.reload()
	if n := len(d.daemon.reload.Current().Problems); n != 0 {
		d.t.Errorf("%d problems are left: %v", n, d.daemon.reload.Current().Problems[0])
	}
}

// crashInFlight stops the daemon at a moment at which runs have just started, none
// of which gets any further, and starts another later.
func (d *day) crashInFlight(from, to time.Time) {
	var release []func()
	for i := 9; i < playbooks/2; i += 10 {
		release = append(release, d.exec.hold(fmt.Sprintf("book%03d", i)))
	}
	before := len(d.log.of("run started"))
	d.advance(from)
	d.due(before + len(release))
	if n := len(d.log.of("run started")); n < before+len(release) {
		d.t.Fatalf("%d runs are in flight, want %d", n-before, len(release))
	}
	d.stop()
	d.clock.Advance(to.Sub(d.clock.Now()))
	for _, r := range release {
		r()
	}
	d.down = append(d.down, [2]time.Time{from, to})
	d.start()
}

// to lets time pass.
func (d *day) to(end time.Time) {
	d.t.Helper()
	d.passes(end.Sub(d.clock.Now()))
}

// everyRunOnce checks that each run that was started was done, once.
func (d *day) everyRunOnce() {
	runs := map[string]journal.Run{}
	for _, r := range d.runs() {
		runs[r.ID] = r
		if r.Status != journal.Done {
			d.t.Errorf("run %s of %s is %s: %s", r.ID, r.Playbook, r.Status, r.WaitFor)
		}
	}
	created := map[string]bool{}
	for _, l := range d.log.of("run started") {
		if created[l.args["run"]] {
			d.t.Errorf("run %s begins twice", l.args["run"])
		}
		created[l.args["run"]] = true
	}
	if len(created) != len(runs) {
		d.t.Errorf("%d runs created, %d in the journal", len(created), len(runs))
	}
	changes := map[string]int{}
	for _, c := range d.exec.calls {
		if c.changed {
			changes[c.run]++
		}
	}
	for id, r := range runs {
		if changes[id] != 1 {
			d.t.Errorf("run %s of %s changed something %d times", id, r.Playbook, changes[id])
		}
	}
	d.t.Logf("%d runs", len(runs))
	for _, message := range []string{
		"run stopped", "a due run cannot start", "a due run cannot start yet", "cannot work on a run now", "cannot look for unfinished runs",
	} {
		if n := len(d.log.of(message)); n > 0 {
			d.t.Errorf("%q was logged %d times: %v", message, n, d.log.of(message)[0])
		}
	}
}

// everySlotOnce checks that each moment that a cron schedule names started one run,
// and those that passed while there was no daemon one together.
func (d *day) everySlotOnce() {
	got := map[string][]string{}
	for _, l := range d.log.of("run started") {
		if l.args["why"] != "asked for" {
			got[l.args["playbook"]] = append(got[l.args["playbook"]], l.args["due"])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.editions)) {
		if d.editions[name][0].book.every > 0 {
			d.interval(name, got[name])
			continue
		}
		var want []string
		for _, at := range d.slots(name) {
			want = append(want, at.UTC().Format(time.RFC3339))
		}
		slices.Sort(got[name])
		if d.editions[name][0].book.Next != "" { // a moment that was asked for can be caught up: see askedFor
			got[name] = slices.DeleteFunc(got[name], func(at string) bool { return !slices.Contains(want, at) })
		}
		if !slices.Equal(got[name], want) {
			d.t.Errorf("%s ran for %v\nwant %v", name, got[name], want)
		}
	}
}

// interval checks the times of a book that runs each so often.
func (d *day) interval(name string, got []string) {
	every := d.editions[name][0].book.every
	if len(got) < 3 {
		d.t.Errorf("%s ran for %v only", name, got)
	}
	var last time.Time
	for _, r := range d.runs() {
		if r.Playbook != name {
			continue
		}
		from, most := last, every+10*time.Minute
		if last.IsZero() {
			from = d.begin
		}
		for _, down := range d.down {
			if at := from.Add(most); at.After(down[0]) && from.Before(down[1]) {
				most = max(most, down[1].Sub(from)+6*time.Minute)
			}
		}
		if gap := r.Created.Sub(from); gap > most || !last.IsZero() && gap < every-10*time.Minute {
			d.t.Errorf("%s: a run began %s after the one before", name, gap)
		}
		last = r.Created
	}
}

// slots returns the moments of the day for which the book has to run.
func (d *day) slots(name string) []time.Time {
	var all []time.Time
	for i, e := range d.editions[name] {
		until := d.end
		if i+1 < len(d.editions[name]) {
			until = d.editions[name][i+1].from
		}
		if e.book != nil {
			all = append(all, e.book.between(d.t, e.from, until, d.end)...)
		}
	}
	for _, down := range d.down {
		missed := false
		all = slices.DeleteFunc(all, func(at time.Time) bool {
			if !at.After(down[0]) || at.After(down[1]) {
				return false
			}
			defer func() { missed = true }()
			return missed
		})
	}
	return all
}

// between goes through all minutes, as a person with a clock on the wall would:
// a time that does not come is the moment of the change, and one that comes
// twice counts once.
func (b *book) between(t *testing.T, from, until, end time.Time) []time.Time {
	zone, err := time.LoadLocation(b.zone)
	if err != nil {
		t.Fatal(err)
	}
	var out []time.Time
	ran := map[string]bool{}
	for at := from.Add(-25 * time.Hour).Truncate(time.Minute); at.Before(until); at = at.Add(time.Minute) {
		wall, before := at.In(zone), at.Add(-time.Minute).In(zone)
		hit := wall.Minute() == b.minute && b.hours == nil
		for _, h := range b.hours {
			here := wall.Hour() == h && wall.Minute() == b.minute
			now := wall.Hour()*60 + wall.Minute()
			skipped := wall.Day() == before.Day() && before.Hour()*60+before.Minute() < h*60+b.minute && h*60+b.minute < now && now-(before.Hour()*60+before.Minute()) > 1
			key := wall.Format(time.DateOnly) + fmt.Sprint(h)
			if (here || skipped) && !ran[key] {
				ran[key], hit = true, true
			}
		}
		// A run for a moment just before the end may begin after it, with jitter.
		if hit && at.After(from) && at.Before(end.Add(-b.jitter)) {
			out = append(out, at)
		}
	}
	return out
}

// askedFor checks that each moment that a run asked for began another, exactly
// then, unless the book ran in between or there was no daemon.
func (d *day) askedFor() {
	byBook := map[string][]journal.Run{}
	for _, r := range d.runs() {
		byBook[r.Playbook] = append(byBook[r.Playbook], r)
	}
	asked := 0
	for name, runs := range byBook {
		if d.editions[name][0].book.Next == "" {
			continue
		}
		for i, r := range runs {
			at := r.Ended.Truncate(time.Second).Add(5 * time.Hour)
			if !at.Before(d.end) || len(d.editions[name]) > 1 {
				continue
			}
			for _, down := range d.down {
				if at.After(down[0]) && at.Before(down[1]) {
					at = down[1]
				}
			}
			asked++
			if i+1 == len(runs) || runs[i+1].Created.Before(at) || runs[i+1].Created.Sub(at) > time.Minute+time.Second {
				d.t.Errorf("%s asked for %s; its runs: %v", name, at, runs)
			}
		}
	}
	if asked < playbooks/5 {
		d.t.Errorf("only %d moments were asked for", asked)
	}
}

// insideWindows checks the clock on the wall at each change.
func (d *day) insideWindows() {
	inside := 0
	for _, c := range d.exec.calls {
		b := d.editions[c.playbook][0].book
		if !c.changed || b.opens == b.closes {
			continue
		}
		zone, err := time.LoadLocation(b.zone)
		d.check(err)
		inside++
		if h := c.at.In(zone).Hour(); h >= b.closes && h < b.opens {
			d.t.Errorf("%s changed something at %s", c.playbook, c.at.In(zone))
		}
	}
	if inside < playbooks*3/20 {
		d.t.Errorf("only %d runs had a window", inside)
	}
}
