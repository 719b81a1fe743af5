package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Blackouts are the times at which no playbook may change anything. nil has none.
type Blackouts struct {
	spans  []span
	ranges []Opening
}

// ParseBlackouts reads blackouts in this machine's time zone: see
// [Parser.ParseBlackouts].
func ParseBlackouts(v any) (*Blackouts, error) { return new(Parser).ParseBlackouts(v) }

// ParseBlackouts reads a text or a list of texts, each as a window's, or a day or
// a range of days, the last one included: "2026-12-24", "2026-12-20..2027-01-06",
// "2026-12-20T18:00..2027-01-06T08:00 America/Chicago". nil has no blackouts.
// Errors are *problem.Error of kind usage.
func (p *Parser) ParseBlackouts(v any) (*Blackouts, error) {
	b := &Blackouts{}
	if v == nil {
		return b, nil
	}
	all, err := texts(v)
	for _, text := range all {
		if err = p.addBlackout(b, text); err != nil {
			break
		}
	}
	if err != nil {
		return nil, refuse("blackouts", err, `"2026-12-20..2027-01-06", or as a window: "Mon-Fri 08:00-18:00 America/Chicago"`)
	}
	return b, nil
}

func (p *Parser) addBlackout(b *Blackouts, text string) error {
	rest := strings.Fields(text)
	if len(rest) == 0 || !strings.Contains(rest[0], "..") && strings.Count(rest[0], "-") != 2 {
		s, err := p.span(text)
		if err == nil {
			b.spans = append(b.spans, s)
		}
		return err
	}
	r, err := p.dates(rest)
	if err != nil {
		return fmt.Errorf("%s: %w", quote(text), err)
	}
	b.ranges = append(b.ranges, r)
	return nil
}

func (p *Parser) dates(parts []string) (Opening, error) {
	if len(parts) > 2 {
		return Opening{}, errors.New("more text follows the zone")
	}
	loc, err := p.zone(strings.Join(parts[1:], ""))
	if err != nil {
		return Opening{}, err
	}
	low, high, ranged := strings.Cut(parts[0], "..")
	if !ranged {
		high = low
	}
	from, _, err := date(low)
	if err != nil {
		return Opening{}, err
	}
	to, length, err := date(high)
	if err != nil {
		return Opening{}, err
	}
	if from >= to+length {
		return Opening{}, errors.New("it ends before it begins")
	}
	return Opening{from.first(loc), (to + length).last(loc)}, nil
}

// date reads a day, which is a day long, or a minute, which is not.
func date(text string) (at, length wall, err error) {
	if t, err := time.Parse("2006-01-02T15:04", text); err == nil {
		return wall(t.Unix()), 0, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, 0, fmt.Errorf("%s is not a valid date, such as 2026-12-20 or 2026-12-20T18:00", quote(text))
	}
	return wall(t.Unix()), day, nil
}

func (b *Blackouts) plus(c *Blackouts) *Blackouts {
	switch {
	case b == nil:
		return c
	case c == nil:
		return b
	}
	return &Blackouts{spans: slices.Concat(b.spans, c.spans), ranges: slices.Concat(b.ranges, c.ranges)}
}

// within returns the merged blackouts that touch from to to.
func (b *Blackouts) within(from, to time.Time) []Opening {
	if b == nil {
		return nil
	}
	var all []Opening
	for _, r := range b.ranges {
		if r.Opens.Before(to) && r.Closes.After(from) {
			all = append(all, r)
		}
	}
	for _, s := range b.spans {
		all = append(all, s.within(from, to)...)
	}
	return merge(all)
}
