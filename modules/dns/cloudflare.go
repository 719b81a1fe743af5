package dns

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/libdns/cloudflare"
	"github.com/libdns/libdns"

	"moonseal/runtime/problem"
)

// cloudflareZone is a provider over libdns/cloudflare.
type cloudflareZone struct {
	c   *Client
	lib *cloudflare.Provider
	id  string // of the zone, if the script names it
}

func newCloudflare(ctx context.Context, c *Client, z Zone) (provider, error) {
	token, err := c.token(ctx, z.APIToken)
	if err != nil {
		return nil, err
	}
	zoneToken, err := c.token(ctx, z.ZoneToken)
	if err != nil {
		return nil, err
	}
	p := &cloudflareZone{c: c, id: z.ZoneID}
	client := c.client(&noting{next: c.opt.HTTP, change: narrow, narrow: p.oneZone, timeout: c.opt.RequestTimeout})
	p.lib = &cloudflare.Provider{APIToken: token, ZoneToken: zoneToken, HTTPClient: client}
	return p, nil
}

// cfZone is a zone as Cloudflare lists it.
type cfZone struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
}

// oneZone makes the library, which fails if several zones have one name, see the zone
// that is meant: the one whose id the script names, or else the only active one. A zone
// that was moved away stays listed beside the one that took its place.
func (p *cloudflareZone) oneZone(x *exchange, req *http.Request, body []byte) []byte {
	if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "/client/v4/zones") {
		return body
	}
	var list map[string]json.RawMessage
	var zones []cfZone
	if json.Unmarshal(body, &list) != nil || len(list["result"]) > 0 && json.Unmarshal(list["result"], &zones) != nil {
		return body
	}
	kept := p.meant(zones)
	problems, _ := problemsIn(body)
	x.noZone = len(kept) != 1 && len(problems) == 0
	if len(kept) == len(zones) {
		return body
	}
	var err error
	if list["result"], err = json.Marshal(kept); err != nil {
		return body
	}
	out, err := json.Marshal(list)
	if err != nil {
		return body
	}
	return out
}

// meant returns those of the zones that may be meant.
func (p *cloudflareZone) meant(zones []cfZone) []cfZone {
	kept := []cfZone{}
	for _, z := range zones {
		if p.id == "" && (len(zones) == 1 || z.Status == "active") || p.id != "" && z.ID == p.id {
			kept = append(kept, z)
		}
	}
	return kept
}

// noZone is the problem of a name for which Cloudflare's list has no zone, or several.
func (p *cloudflareZone) noZone(apex string, x *exchange, err error) *problem.Error {
	e := &problem.Error{
		Kind: problem.NotFound, Target: apex, Work: problem.NotDone, Message: "Cloudflare shows no zone " + apex + " to this token",
		Server: err.Error(), Hint: "check the zone's name, and that the token may read it (Zone:Read)",
	}
	var list struct {
		Result []cfZone `json:"result"`
	}
	if json.Unmarshal(x.body, &list) != nil || len(list.Result) == 0 {
		return e
	}
	ids := make([]string, 0, len(list.Result))
	for _, z := range list.Result {
		ids = append(ids, z.ID+" ("+z.Status+")")
	}
	e.Server = ""
	if p.id != "" {
		e.Message = "Cloudflare shows no zone " + apex + " with the id " + p.id + ", but " + strings.Join(ids, ", ")
		e.Hint = "correct zone_id in the zone, or leave it out: the active zone is taken then"
		return e
	}
	e.Kind, e.Message, e.Hint = problem.Conflict, "Cloudflare has several zones "+apex+": "+strings.Join(ids, ", "), "set zone_id in the zone"
	return e
}

type narrowKey struct{}

// narrow makes the library, which lists whole zones in pages of 100, list one
// name's records.
func narrow(req *http.Request) {
	to, ok := req.Context().Value(narrowKey{}).(libdns.RR)
	if !ok || req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "/dns_records") {
		return
	}
	q := req.URL.Query()
	q.Set("name", to.Name)
	q.Set("type", to.Type)
	req.URL.RawQuery = q.Encode()
}

func (p *cloudflareZone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	if name != "" {
		ctx = context.WithValue(ctx, narrowKey{}, libdns.RR{Name: name, Type: typ})
	}
	var all []libdns.Record
	_, err := p.call(ctx, apex, func(ctx context.Context) (err error) {
		all, err = p.lib.GetRecords(ctx, apex)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := fromLibdns(apex, all)
	return matching(out, name, typ), nil
}

func (p *cloudflareZone) add(ctx context.Context, apex string, records []Record) ([]Record, error) {
	const identical, exists = 81058, 81057 // "an identical record already exists", "the record already exists"
	var out []Record
	for i, r := range records {
		var made []libdns.Record
		x, err := p.call(ctx, apex, func(ctx context.Context) (err error) {
			made, err = p.lib.AppendRecords(ctx, apex, toLibdns(r))
			return err
		})
		switch {
		case err == nil && len(made) == 1:
			out = append(out, fromLibdns(apex, made)...)
		case err != nil && x.status == http.StatusBadRequest && x.hasCode(identical, exists):
			out = append(out, r)
		case err != nil:
			return nil, halfDone(err, i > 0)
		}
	}
	return out, nil
}

func (p *cloudflareZone) remove(ctx context.Context, apex string, records []Record) error {
	const missing = 81044
	for i, r := range records {
		x, err := p.call(ctx, apex, func(ctx context.Context) error {
			_, err := p.lib.DeleteRecords(ctx, apex, toLibdns(r))
			return err
		})
		if err != nil && (x.status != http.StatusNotFound || !x.hasCode(missing)) {
			return halfDone(err, i > 0)
		}
	}
	return nil
}

// call runs one call of the library, which panics over a list without
// result_info.
func (p *cloudflareZone) call(ctx context.Context, apex string, do func(context.Context) error) (x *exchange, _ *problem.Error) {
	ctx, x = observed(ctx)
	err := recovered(func() error { return do(ctx) })
	switch {
	case err == nil:
		return x, nil
	case x.status == http.StatusOK && x.noZone:
		return x, p.noZone(apex, x, err)
	default:
		return x, x.problemOf(ctx, err, "api.cloudflare.com", p.c.opt.Clock.Now())
	}
}

// recovered runs do and returns a panic as an error.
func recovered(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the provider's library panicked: %v", r)
		}
	}()
	return do()
}
