package schedule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/duration"
	"moonseal/runtime/suggest"
)

// Schedule says when a playbook is due. It is immutable.
type Schedule struct {
	cron   *cron // nil where every counts
	every  time.Duration
	jitter time.Duration
	text   string
}

// Parse reads a playbook's schedule in this machine's time zone: see [Parser.Parse].
func Parse(v any) (*Schedule, error) { return new(Parser).Parse(v) }

// Parse reads a playbook's schedule: a cron text, or a table with cron, tz and
// jitter, or with every and jitter. Errors are *problem.Error of kind usage.
func (p *Parser) Parse(v any) (*Schedule, error) {
	s, err := p.schedule(v)
	if err != nil {
		return nil, refuse("schedule", err, scheduleHint(v))
	}
	return s, nil
}

func (p *Parser) schedule(v any) (*Schedule, error) {
	switch v := v.(type) {
	case string:
		return p.fromTable(map[string]any{"cron": v})
	case map[string]any:
		return p.fromTable(v)
	}
	return nil, fmt.Errorf("must be a cron text or a table, not %s", show(v))
}

func (p *Parser) fromTable(table map[string]any) (*Schedule, error) {
	known := []string{"cron", "tz", "every", "jitter"}
	values := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("unknown key %s%s", quote(key), suggest.Phrase(key, known))
		}
		text, ok := table[key].(string)
		if !ok {
			return nil, fmt.Errorf("%s must be a text, not %s", key, show(table[key]))
		}
		if len(text) > longest {
			return nil, fmt.Errorf("%s is longer than %d characters", key, longest)
		}
		values[key] = text
	}
	cron, hasCron := values["cron"]
	every, hasEvery := values["every"]
	_, hasZone := values["tz"]
	jitter, hasJitter := values["jitter"]
	switch {
	case hasCron == hasEvery:
		return nil, errors.New("must have either cron or every")
	case hasEvery && hasZone:
		return nil, errors.New("tz goes with cron, not with every")
	case hasZone && values["tz"] == "":
		return nil, errors.New("tz is empty; it must be a name such as America/Chicago")
	}
	s, err := interval(every)
	if hasCron {
		s, err = p.fromCron(cron, values["tz"])
	}
	if err == nil && hasJitter {
		err = s.addJitter(jitter)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *Parser) fromCron(text, zone string) (*Schedule, error) {
	loc, err := p.zone(zone)
	if err != nil {
		return nil, fmt.Errorf("tz %w", err)
	}
	c, err := parseCron(text, loc)
	if err != nil {
		return nil, err
	}
	return &Schedule{cron: c, text: strings.TrimSpace(strings.Join(strings.Fields(text), " ") + " " + zone)}, nil
}

func interval(every string) (*Schedule, error) {
	d, err := duration.Parse(every)
	if err != nil {
		return nil, fmt.Errorf("every: %w", err)
	}
	if d < time.Minute {
		return nil, fmt.Errorf("every must be a minute or more, not %s", quote(every))
	}
	return &Schedule{every: d, text: "every " + every}, nil
}

func (s *Schedule) addJitter(text string) error {
	d, err := duration.Parse(text)
	if err != nil {
		return fmt.Errorf("jitter: %w", err)
	}
	between := s.every
	if s.cron != nil {
		between = s.cron.gap()
	}
	if d >= between {
		return fmt.Errorf("jitter %s must be shorter than the time from one run to the next, %s", quote(text), between)
	}
	s.jitter = d
	s.text += ", jitter " + text
	return nil
}

func scheduleHint(v any) string {
	text, ok := v.(string)
	if !ok {
		return `schedule = "17 3 * * *", { cron = "17 3 * * *", tz = "America/Chicago", jitter = "30m" } or { every = "6h", jitter = "10m" }`
	}
	parts := strings.Fields(text)
	macros := map[string]string{
		"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
		"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
	}
	switch {
	case len(parts) == 1 && macros[parts[0]] != "":
		return fmt.Sprintf("schedule = %q", macros[parts[0]])
	case len(parts) == 6 && strings.Contains(parts[5], "/") && !strings.HasPrefix(parts[5], "*"):
		return fmt.Sprintf("schedule = { cron = %q, tz = %q }", strings.Join(parts[:5], " "), parts[5])
	case len(parts) == 6:
		return "cron has no field for seconds"
	}
	return `such as "17 3 * * *": at 03:17 each day`
}

// Next returns the first moment after t, without jitter. For cron, when clocks change: a
// time that does not exist counts as the instant of the change, and a time that occurs
// twice counts the first time; only a schedule with * for the hour, which means an
// interval, continues through the hour that occurs twice. An interval counts from t.
func (s *Schedule) Next(t time.Time) time.Time {
	if s.cron == nil {
		return t.Round(0).Add(s.every)
	}
	return s.cron.next(t)
}

// Interval reports whether it counts from the last run, not by the wall clock.
func (s *Schedule) Interval() bool { return s.cron == nil }

// Jitter returns how much later than [Schedule.Next] a run may start.
func (s *Schedule) Jitter() time.Duration { return s.jitter }

// String returns it on one line. Schedules of one Parser are equal if their texts are.
func (s *Schedule) String() string { return s.text }
