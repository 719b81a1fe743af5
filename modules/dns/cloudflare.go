package dns

import (
	"context"
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
	return &cloudflareZone{c: c, lib: &cloudflare.Provider{APIToken: token, ZoneToken: zoneToken, HTTPClient: c.httpClient(narrow)}}, nil
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
	const identical = "(81058)"
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
		case err != nil && x.status == http.StatusBadRequest && strings.Contains(err.Server, identical):
			out = append(out, r)
		case err != nil:
			return nil, halfDone(err, i > 0)
		}
	}
	return out, nil
}

func (p *cloudflareZone) remove(ctx context.Context, apex string, records []Record) error {
	const missing = "(81044)"
	for i, r := range records {
		x, err := p.call(ctx, apex, func(ctx context.Context) error {
			_, err := p.lib.DeleteRecords(ctx, apex, toLibdns(r))
			return err
		})
		if err != nil && (x.status != http.StatusNotFound || !strings.Contains(err.Server, missing)) {
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
	case x.status == http.StatusOK && strings.HasPrefix(err.Error(), "expected 1 zone, got"):
		return x, &problem.Error{
			Kind: problem.NotFound, Target: apex, Work: problem.NotDone, Message: "Cloudflare shows no zone " + apex + " to this token",
			Server: err.Error(), Hint: "check the zone's name, and that the token may read it (Zone:Read)",
		}
	default:
		return x, x.problemOf(ctx, err, "api.cloudflare.com", p.c.opt.Clock.Now())
	}
}

// recovered runs do and gives a panic as an error.
func recovered(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the provider's library panicked: %v", r)
		}
	}()
	return do()
}
