package dns

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"
	"github.com/libdns/libdns"

	"moonseal/runtime/problem"
)

// digitalOceanZone is a provider over DigitalOcean's SDK; see the package's doc
// for why libdns/digitalocean is not in between.
type digitalOceanZone struct {
	c   *Client
	api godo.DomainsService
}

func newDigitalOcean(ctx context.Context, c *Client, z Zone) (provider, error) {
	token, err := c.token(ctx, z.APIToken)
	if err != nil {
		return nil, err
	}
	authorize := func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token) }
	return &digitalOceanZone{c: c, api: godo.NewClient(c.httpClient(authorize)).Domains}, nil
}

// perPage is the most that the API gives at once.
const perPage = 200

func (p *digitalOceanZone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	var out []Record
	for page := 1; ; page++ {
		opt := &godo.ListOptions{Page: page, PerPage: perPage}
		var got []godo.DomainRecord
		var resp *godo.Response
		err := p.call(ctx, apex, func(ctx context.Context) (err error) {
			if name == "" {
				got, resp, err = p.api.Records(ctx, apex, opt)
			} else {
				got, resp, err = p.api.RecordsByTypeAndName(ctx, apex, typ, name, opt)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			out = append(out, fromGodo(apex, r))
		}
		if resp.Links == nil || resp.Links.IsLastPage() || len(got) == 0 {
			return matching(out, name, typ), nil
		}
	}
}

func fromGodo(apex string, r godo.DomainRecord) Record {
	name := apex
	if r.Name != "@" {
		name = strings.ToLower(r.Name) + "." + apex
	}
	return Record{Zone: apex, Name: name, Type: r.Type, Value: r.Data, TTL: time.Duration(r.TTL) * time.Second, ID: strconv.Itoa(r.ID)}
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
		var made *godo.DomainRecord
		err := p.call(ctx, apex, func(ctx context.Context) (err error) {
			made, _, err = p.api.CreateRecord(ctx, apex, &godo.DomainRecordEditRequest{
				Type: r.Type, Name: libdns.RelativeName(r.Name, apex), Data: r.Value, TTL: int(r.TTL.Seconds()),
			})
			return err
		})
		if err != nil {
			return nil, halfDone(err, i > 0)
		}
		out = append(out, fromGodo(apex, *made))
	}
	return out, nil
}

// remove deletes by id, then what is left of the same value: an answer that was
// lost may have left a record whose id nobody knows.
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
			id, err := strconv.Atoi(old.ID)
			if err != nil {
				return &problem.Error{Kind: problem.Internal, Message: "a record's id is no number: " + old.ID, Cause: err}
			}
			gone := p.call(ctx, apex, func(ctx context.Context) error {
				_, err := p.api.DeleteRecord(ctx, apex, id)
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
