package dns

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"github.com/libdns/libdns"
	"github.com/libdns/route53"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// route53Zone is a provider over libdns/route53.
type route53Zone struct {
	c   *Client
	api *sdk.Client // of the library too

	mu   sync.Mutex
	libs map[string]*route53.Provider // by apex; one for each hosted zone
}

func isAccessKeyID(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
}

func newRoute53(ctx context.Context, c *Client, z Zone) (provider, error) {
	var values [3]string
	for i, h := range []secret.Handle{z.AccessKeyID, z.SecretAccessKey, z.SessionToken} {
		v, err := c.token(ctx, h)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	if !isAccessKeyID(values[0]) {
		return nil, &problem.Error{Kind: problem.Auth, Work: problem.NotDone, Message: "the value of " + z.AccessKeyID.String() + " is not a valid AWS access key id"}
	}
	region := z.Region
	if region == "" {
		region = "us-east-1"
	}
	p := &route53Zone{c: c, libs: map[string]*route53.Provider{}}
	p.api = sdk.New(sdk.Options{
		Region: region, HTTPClient: c.httpClient(nil), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(values[0], values[1], values[2]),
		APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("RecordSet", reshape), middleware.Before)
		}},
	})
	if z.HostedZoneID == "" {
		return p, nil
	}
	lib, err := p.library(z.HostedZoneID)
	p.libs[""] = lib
	return p, err
}

// library returns the provider for a hosted zone. It counts as set up already, so
// that it never reads AWS's environment and files, nor ends the process over them.
func (p *route53Zone) library(id string) (*route53.Provider, error) {
	lib := &route53.Provider{HostedZoneID: strings.TrimPrefix(id, "/hostedzone/"), Logger: slog.New(slog.DiscardHandler)}
	once, err := unexported[sync.Once](lib, "initOnce")
	if err != nil {
		return nil, err
	}
	api, err := unexported[*sdk.Client](lib, "client")
	if err != nil {
		return nil, err
	}
	once.Do(func() { *api = p.api })
	return lib, nil
}

// zone finds the hosted zone of that name. The library asks for one zone only, and takes
// a private one if that comes first.
func (p *route53Zone) zone(ctx context.Context, apex string) (*route53.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []string{"", apex} {
		if lib, ok := p.libs[key]; ok {
			return lib, nil
		}
	}
	var out *sdk.ListHostedZonesByNameOutput
	if err := p.call(ctx, func(ctx context.Context) (err error) {
		out, err = p.api.ListHostedZonesByName(ctx, &sdk.ListHostedZonesByNameInput{DNSName: aws.String(fqdn(apex))})
		return err
	}); err != nil {
		return nil, err
	}
	id, err := pick(out.HostedZones, apex)
	if err != nil {
		return nil, err
	}
	lib, err := p.library(id)
	if err != nil {
		return nil, err
	}
	p.libs[apex] = lib
	return lib, nil
}

// pick returns the one zone of that name, the public one if there is one. The API lists
// from a name on, so other names have to be passed over.
func pick(zones []types.HostedZone, apex string) (string, error) {
	var public, private []string
	for _, z := range zones {
		if !strings.EqualFold(aws.ToString(z.Name), fqdn(apex)) {
			continue
		}
		if z.Config != nil && z.Config.PrivateZone {
			private = append(private, aws.ToString(z.Id))
		} else {
			public = append(public, aws.ToString(z.Id))
		}
	}
	found := public
	if len(found) == 0 {
		found = private
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", &problem.Error{
			Kind: problem.NotFound, Target: apex, Work: problem.NotDone, Message: "Route 53 has no hosted zone " + apex + " in this account",
			Hint: "check the zone's name and whose credentials these are",
		}
	default:
		return "", &problem.Error{
			Kind: problem.Conflict, Target: apex, Work: problem.NotDone, Message: "Route 53 has several hosted zones " + apex + ": " + strings.Join(found, ", "),
			Hint: "set hosted_zone_id in the zone",
		}
	}
}

func (p *route53Zone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	lib, err := p.zone(ctx, apex)
	if err != nil {
		return nil, err
	}
	if name != "" && typ != "" {
		ctx = about(ctx, name, typ)
	}
	var all []libdns.Record
	if err := p.call(ctx, func(ctx context.Context) (err error) {
		all, err = lib.GetRecords(ctx, fqdn(apex))
		return err
	}); err != nil {
		return nil, err
	}
	return matching(fromLibdns(apex, all), name, typ), nil
}

func (p *route53Zone) add(ctx context.Context, apex string, records []Record) ([]Record, error) {
	return records, p.change(ctx, apex, records, func(ctx context.Context, lib *route53.Provider, all []libdns.Record) error {
		_, err := lib.AppendRecords(ctx, fqdn(apex), all)
		return err
	})
}

func (p *route53Zone) remove(ctx context.Context, apex string, records []Record) error {
	return p.change(ctx, apex, records, func(ctx context.Context, lib *route53.Provider, all []libdns.Record) error {
		_, err := lib.DeleteRecords(ctx, fqdn(apex), all)
		return err
	})
}

// maxTurns bounds how often a set that other clients change at the same time is read
// again.
const maxTurns = 8

// change runs a call of the library that reads and writes one record set, and repeats it
// if another client changed the set in between.
func (p *route53Zone) change(ctx context.Context, apex string, records []Record, do func(context.Context, *route53.Provider, []libdns.Record) error) error {
	if len(records) == 0 {
		return nil
	}
	lib, err := p.zone(ctx, apex)
	if err != nil {
		return err
	}
	var all []libdns.Record
	for _, r := range records {
		all = append(all, toLibdns(r)...)
	}
	for turn := 1; ; turn++ {
		refused := p.call(about(ctx, records[0].Name, records[0].Type), func(ctx context.Context) error { return do(ctx, lib, all) })
		switch {
		case refused == nil:
			return nil
		case !overtaken(refused):
			return refused
		case turn == maxTurns:
			refused.Kind, refused.Message = problem.Unavailable, "this record set keeps changing"
			return refused
		}
	}
}

// overtaken reports whether a batch was refused because the set is another now.
func overtaken(refused *problem.Error) bool {
	var api smithy.APIError
	if !errors.As(refused, &api) || api.ErrorCode() != "InvalidChangeBatch" {
		return false
	}
	for _, words := range []string{"but it already exists", "but it was not found", "do not match the current values"} {
		if strings.Contains(refused.Server, words) {
			return true
		}
	}
	return false
}

// call runs one call of the library. AWS has codes of its own for what a status
// does not say.
func (p *route53Zone) call(ctx context.Context, do func(context.Context) error) *problem.Error {
	ctx, x := observed(ctx)
	err := recovered(func() error { return do(ctx) })
	if err == nil {
		return nil
	}
	e := x.problemOf(ctx, err, "route53.amazonaws.com", p.c.opt.Clock.Now())
	e.Cause = err
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "Throttling", "ThrottlingException":
			e.Kind = problem.RateLimited
		case "PriorRequestNotComplete":
			e.Kind, e.Work = problem.Unavailable, problem.NotDone
		case "NoSuchHostedZone":
			e.Hint = "check hosted_zone_id and whose credentials these are"
		}
	}
	return e
}
