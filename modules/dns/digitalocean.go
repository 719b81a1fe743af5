package dns

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"
	"github.com/libdns/digitalocean"
	"github.com/libdns/libdns"

	"moonseal/runtime/problem"
)

// digitalOceanZone is a provider over libdns/digitalocean.
type digitalOceanZone struct {
	c   *Client
	lib *digitalocean.Provider
}

func newDigitalOcean(ctx context.Context, c *Client, z Zone) (provider, error) {
	token, err := c.token(ctx, z.APIToken)
	if err != nil {
		return nil, err
	}
	p := &digitalOceanZone{c: c, lib: &digitalocean.Provider{}}
	api, err := unexported[*godo.Client](p.lib, "client")
	if err != nil {
		return nil, err
	}
	*api = godo.NewClient(c.httpClient(func(req *http.Request) {
		req.Header.Set("Authorization", "Bearer "+token)
		page(req)
	}))
	return p, nil
}

// page makes the library, which lists whole zones in pages of 20, list one name's
// records, and the most that the API returns at once.
func page(req *http.Request) {
	if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "/records") {
		return
	}
	q := req.URL.Query()
	q.Set("per_page", "200")
	if to, ok := req.Context().Value(narrowKey{}).(libdns.RR); ok {
		q.Set("name", to.Name)
		q.Set("type", to.Type)
	}
	req.URL.RawQuery = q.Encode()
}

func (p *digitalOceanZone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	if name != "" {
		ctx = context.WithValue(ctx, narrowKey{}, libdns.RR{Name: name, Type: typ})
	}
	var all []libdns.Record
	if err := p.call(ctx, apex, func(ctx context.Context) (err error) {
		all, err = p.lib.GetRecords(ctx, apex)
		return err
	}); err != nil {
		return nil, err
	}
	return matching(fromDigitalOcean(apex, all), name, typ), nil
}

// fromDigitalOcean keeps the ids, by which alone the library deletes.
func fromDigitalOcean(apex string, records []libdns.Record) []Record {
	out := fromLibdns(apex, records)
	for i, r := range records {
		if own, ok := r.(digitalocean.DNS); ok {
			out[i].ID = own.ID
		}
	}
	return out
}

// add lists first: the API takes the same record twice.
func (p *digitalOceanZone) add(ctx context.Context, apex string, records []Record) ([]Record, error) {
	if len(records) == 0 {
		return nil, nil
	}
	have, err := p.list(ctx, apex, records[0].Name, records[0].Type)
	if err != nil {
		return nil, err
	}
	var out []Record
	for i, r := range records {
		if old := withValue(have, r.Value); len(old) > 0 {
			out = append(out, old[0])
			continue
		}
		var made []libdns.Record
		err := p.call(ctx, apex, func(ctx context.Context) (err error) {
			made, err = p.lib.AppendRecords(ctx, apex, toLibdns(r))
			return err
		})
		if err != nil {
			return nil, halfDone(err, i > 0)
		}
		out = append(out, fromDigitalOcean(apex, made)...)
	}
	return out, nil
}

// remove lists the name and deletes the values by the ids that they have now: an answer
// that was lost may have left a record with an unknown id, also a twin of one that is
// known.
func (p *digitalOceanZone) remove(ctx context.Context, apex string, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	have, err := p.list(ctx, apex, records[0].Name, records[0].Type)
	if err != nil {
		return err
	}
	for _, r := range records {
		for _, old := range withValue(have, r.Value) {
			if _, err := strconv.Atoi(old.ID); err != nil {
				return &problem.Error{Kind: problem.Internal, Message: "a record's id is not a number: " + old.ID, Cause: err}
			}
			gone := p.call(ctx, apex, func(ctx context.Context) error {
				_, err := p.lib.DeleteRecords(ctx, apex, []libdns.Record{digitalocean.DNS{Record: toLibdns(old)[0].RR(), ID: old.ID}})
				return err
			})
			if gone != nil && gone.Status != http.StatusNotFound {
				return gone
			}
		}
	}
	return nil
}

func withValue(records []Record, value string) []Record {
	var out []Record
	for _, r := range records {
		if r.Value == value {
			out = append(out, r)
		}
	}
	return out
}

func (p *digitalOceanZone) call(ctx context.Context, apex string, do func(context.Context) error) *problem.Error {
	ctx, x := observed(ctx)
	err := recovered(func() error { return do(ctx) })
	if err == nil {
		return nil
	}
	e := x.problemOf(ctx, err, "api.digitalocean.com", p.c.opt.Clock.Now())
	if e.Kind == problem.NotFound {
		e.Message, e.Target = "DigitalOcean has no domain "+apex+" for this token, or no such record", apex
		e.Hint = "check the zone's name, and that the token is of the team that has it"
	}
	return e
}
