package dns

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// Plan is what Look found and Present will do: plain data.
type Plan struct {
	Have    []Record `json:"have"`    // there already
	Missing []Record `json:"missing"` // to be written
}

// Records returns all of a plan's records.
func (p Plan) Records() []Record { return append(slices.Clone(p.Have), p.Missing...) }

// LookPresent finds where each challenge's record belongs and what is there. It reads
// only. done is not nil if nothing is missing. If the zone's servers have to show the
// records and cannot be reached, it is an error: nothing is written that will not count.
func (c *Client) LookPresent(ctx context.Context, z Zone, challenges []Challenge) (plan *Plan, done []Record, err error) {
	wanted, blocked, err := c.targets(ctx, z, challenges)
	if err == nil && blocked != nil && z.Propagation.mode() == modeAuthoritative {
		err = blocked
	}
	if err != nil {
		return nil, nil, err
	}
	return c.plan(ctx, z, wanted)
}

func (c *Client) plan(ctx context.Context, z Zone, wanted []Record) (plan *Plan, done []Record, err error) {
	p, err := c.provider(ctx, z)
	if err != nil {
		return nil, nil, err
	}
	plan = &Plan{Have: []Record{}, Missing: []Record{}}
	for _, group := range byName(wanted) {
		have, err := p.list(ctx, group[0].Zone, group[0].Name, "TXT")
		if err != nil {
			return nil, nil, err
		}
		for _, r := range group {
			if old := withValue(have, r.Value); len(old) > 0 {
				plan.Have = append(plan.Have, old[0])
			} else {
				plan.Missing = append(plan.Missing, r)
			}
		}
	}
	if len(plan.Missing) == 0 {
		return plan, plan.Have, nil
	}
	return plan, nil, nil
}

// Present writes what the plan misses, and returns all of its records as the
// provider knows them. Doing it twice doubles nothing.
func (c *Client) Present(ctx context.Context, z Zone, plan *Plan) ([]Record, error) {
	p, err := c.provider(ctx, z)
	if err != nil {
		return nil, err
	}
	c.forget(plan.Missing)
	out := slices.Clone(plan.Have)
	for i, group := range byName(plan.Missing) {
		made, err := p.add(ctx, group[0].Zone, group)
		if err != nil {
			e := *problem.From(err)
			return nil, halfDone(&e, i > 0)
		}
		out = append(out, made...)
	}
	return out, nil
}

// ProbePresent reports whether all of the challenges' records are at the provider. If
// not, to present them again is safe.
func (c *Client) ProbePresent(ctx context.Context, z Zone, challenges []Challenge) ([]Record, bool, error) {
	wanted, _, err := c.targets(ctx, z, challenges)
	if err != nil {
		return nil, false, err
	}
	_, done, err := c.plan(ctx, z, wanted)
	return done, done != nil, err
}

// targets returns for each challenge the record that has to be written, and why the
// servers of a zone of theirs cannot be reached, if they cannot.
func (c *Client) targets(ctx context.Context, z Zone, challenges []Challenge) (out []Record, blocked *problem.Error, err error) {
	clean, err := checked(challenges)
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.provider(ctx, z); err != nil { // wrong credentials come before any question
		return nil, nil, err
	}
	l, err := c.lookup(z)
	if err != nil {
		return nil, nil, err
	}
	places, err := l.places(ctx, namesOf(clean), l.follow)
	if err != nil {
		return nil, nil, err
	}
	out = make([]Record, 0, len(clean))
	for _, ch := range clean {
		at := places[ch.Name]
		switch {
		case at.err != nil:
			return nil, nil, at.err
		case l.zone != "" && at.apex != l.zone:
			return nil, nil, outside(ch.Name, at.place, l.zone)
		}
		blocked = cmp.Or(blocked, at.blocked)
		out = append(out, Record{Zone: at.apex, Name: at.target, Type: "TXT", Value: ch.Value, TTL: z.ttl()})
	}
	return out, blocked, nil
}

func outside(name string, at place, zone string) error {
	e := &problem.Error{
		Kind: problem.Mismatch, Target: name, Work: problem.NotDone, Message: fmt.Sprintf("the name is not in the zone %s", zone),
		Hint: "set the zone that the name is in, or leave its name out",
	}
	switch {
	case at.target != name:
		e.Message = fmt.Sprintf("%s leads to %s, which is not in the zone %s", at.via, at.target, zone)
		e.Hint = "describe the zone that it leads to"
	case at.cut != "":
		e.Message = fmt.Sprintf("the name is in %s, which is a zone of its own: %s delegates it", at.apex, at.cut)
		e.Hint = "describe the zone " + at.apex + ": a record in " + at.cut + " would not be seen"
	}
	return e
}

// byName groups records by zone and name, in the order in which names come.
func byName(records []Record) [][]Record {
	var out [][]Record
	index := map[string]int{}
	for _, r := range records {
		key := r.Zone + " " + r.Name + " " + r.Type
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], r)
	}
	return out
}

// fromRR returns a wire record.
func fromRR(apex string, rr mdns.RR) Record {
	h := rr.Header()
	r := Record{Zone: apex, Name: strings.TrimSuffix(strings.ToLower(h.Name), "."), Type: mdns.TypeToString[h.Rrtype], TTL: time.Duration(h.Ttl) * time.Second}
	if txt, ok := rr.(*mdns.TXT); ok {
		r.Value = unescape(strings.Join(txt.Txt, ""), 10)
	} else {
		r.Value = strings.TrimPrefix(rr.String(), h.String())
	}
	return r
}
