package dns

import (
	"context"

	"moonseal/runtime/problem"
)

// Held returns the key under which a challenge's record is held against removal by
// another run.
func (c Challenge) Held() string {
	name, err := cleanName(c.Name)
	if err != nil {
		name = c.Name
	}
	return name + " " + c.Value
}

// Remove removes the challenges' values and nothing else. records are what Present
// returned; if its answer was lost (nil), the challenges' names are looked up again. A
// value that is gone already is not an error. Challenges for which held says true are
// left alone: another run still needs them.
func (c *Client) Remove(ctx context.Context, z Zone, challenges []Challenge, records []Record, held func(key string) bool) error {
	p, err := c.provider(ctx, z)
	if err != nil {
		return err
	}
	keep := map[string]bool{} // values: one is a digest over one challenge's token
	var free []Challenge
	for _, ch := range challenges {
		if held != nil && held(ch.Held()) {
			keep[ch.Value] = true
		} else {
			free = append(free, ch)
		}
	}
	if records == nil && len(free) > 0 {
		if records, _, err = c.targets(ctx, z, free); err != nil {
			return err
		}
	}
	var going []Record
	for _, r := range records {
		if !keep[r.Value] {
			going = append(going, r)
		}
	}
	c.forget(going)
	var first error
	for _, group := range byName(going) {
		if err := p.remove(ctx, group[0].Zone, group); err != nil && first == nil {
			first = problem.At(err, "", group[0].Name) // the other names are still cleaned up
		}
	}
	return first
}

// Records lists a zone's records: of one name and type if they are not "". If name is "",
// the zone has to name its apex.
func (c *Client) Records(ctx context.Context, z Zone, name, typ string) ([]Record, error) {
	p, l, err := c.open(ctx, z)
	if err != nil {
		return nil, err
	}
	if name == "" {
		if l.zone == "" {
			return nil, usage("to list a whole zone, set the zone's name")
		}
		return listed(ctx, p, l.zone, "", typ)
	}
	clean, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	if l.zone != "" && !within(clean, l.zone) {
		return nil, outside(clean, place{target: clean}, l.zone)
	}
	apex := l.zone
	if apex == "" {
		at, err := l.locate(ctx, clean)
		if err != nil {
			return nil, err
		}
		apex = at.apex
	}
	return listed(ctx, p, apex, clean, typ)
}

// listed asks for one name and type, or for the whole zone and picks: that is
// what providers offer.
func listed(ctx context.Context, p provider, apex, name, typ string) ([]Record, error) {
	if name != "" && typ != "" {
		return p.list(ctx, apex, name, typ)
	}
	all, err := p.list(ctx, apex, "", "")
	if err != nil {
		return nil, err
	}
	return matching(all, name, typ), nil
}
