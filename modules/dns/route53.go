package dns

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// route53Zone is a provider over Amazon's SDK; see the package's doc for why
// libdns/route53 is not in between.
type route53Zone struct {
	c   *Client
	api *route53.Client

	mu  sync.Mutex
	ids map[string]string // of hosted zones, by apex
}

var accessKeyRule = regexp.MustCompile(`^[A-Za-z0-9]{16,128}$`)

func newRoute53(ctx context.Context, c *Client, z Zone) (provider, error) {
	var values [3]string
	for i, h := range []secret.Handle{z.AccessKeyID, z.SecretAccessKey, z.SessionToken} {
		v, err := c.token(ctx, h)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	if !accessKeyRule.MatchString(values[0]) {
		return nil, &problem.Error{Kind: problem.Auth, Work: problem.NotDone, Message: "the value of " + z.AccessKeyID.String() + " is no AWS access key id"}
	}
	region := z.Region
	if region == "" {
		region = "us-east-1"
	}
	p := &route53Zone{c: c, ids: map[string]string{}}
	if z.HostedZoneID != "" {
		p.ids[""] = z.HostedZoneID
	}
	p.api = route53.New(route53.Options{
		Region: region, HTTPClient: c.httpClient(nil), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(values[0], values[1], values[2]),
	})
	return p, nil
}

// zoneID finds the public hosted zone of that name. The API lists from a name on,
// so other names have to be passed over.
func (p *route53Zone) zoneID(ctx context.Context, apex string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []string{"", apex} {
		if id, ok := p.ids[key]; ok {
			return id, nil
		}
	}
	var out *route53.ListHostedZonesByNameOutput
	err := p.call(ctx, func(ctx context.Context) (err error) {
		out, err = p.api.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: aws.String(fqdn(apex))})
		return whole(err, err != nil || out.MaxItems != nil)
	})
	if err != nil {
		return "", err
	}
	id, wrong := pick(out.HostedZones, apex)
	if wrong == nil {
		p.ids[apex] = id
	}
	return id, wrong
}

// pick gives the one zone of that name, the public one where there is one.
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
		return "", &problem.Error{Kind: problem.NotFound, Target: apex, Work: problem.NotDone, Message: "Route 53 has no hosted zone " + apex + " in this account",
			Hint: "check the zone's name and whose credentials these are"}
	default:
		return "", &problem.Error{Kind: problem.Conflict, Target: apex, Work: problem.NotDone, Message: "Route 53 has several hosted zones " + apex + ": " + strings.Join(found, ", "),
			Hint: "set hosted_zone_id in the zone"}
	}
}

func (p *route53Zone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	id, err := p.zoneID(ctx, apex)
	if err != nil {
		return nil, err
	}
	if name != "" && typ != "" {
		set, err := p.set(ctx, id, name, typ)
		if err != nil || set == nil {
			return []Record{}, err
		}
		return fromSet(apex, *set), nil
	}
	out := []Record{}
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &id}
	for {
		var page *route53.ListResourceRecordSetsOutput
		err := p.call(ctx, func(ctx context.Context) (err error) {
			page, err = p.api.ListResourceRecordSets(ctx, in)
			return whole(err, err != nil || page.MaxItems != nil)
		})
		if err != nil {
			return nil, err
		}
		for _, s := range page.ResourceRecordSets {
			out = append(out, fromSet(apex, s)...)
		}
		if !page.IsTruncated {
			return matching(out, name, typ), nil
		}
		in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = page.NextRecordName, page.NextRecordType, page.NextRecordIdentifier
	}
}

// set gives one record set; nil where there is none.
func (p *route53Zone) set(ctx context.Context, id, name, typ string) (*types.ResourceRecordSet, error) {
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &id, StartRecordName: aws.String(fqdn(name)), StartRecordType: types.RRType(typ), MaxItems: aws.Int32(1)}
	var out *route53.ListResourceRecordSetsOutput
	err := p.call(ctx, func(ctx context.Context) (err error) {
		out, err = p.api.ListResourceRecordSets(ctx, in)
		return whole(err, err != nil || out.MaxItems != nil)
	})
	if err != nil {
		return nil, err
	}
	for _, s := range out.ResourceRecordSets {
		if strings.EqualFold(unescape(aws.ToString(s.Name), 8), fqdn(name)) && string(s.Type) == typ {
			return &s, nil
		}
	}
	return nil, nil
}

func fromSet(apex string, s types.ResourceRecordSet) []Record {
	var out []Record
	for _, r := range s.ResourceRecords {
		v := aws.ToString(r.Value)
		if s.Type == types.RRTypeTxt {
			if text, err := joinQuoted(v, 8); err == nil {
				v = text
			}
		}
		name := strings.TrimSuffix(strings.ToLower(unescape(aws.ToString(s.Name), 8)), ".")
		out = append(out, Record{Zone: apex, Name: name, Type: string(s.Type), Value: v, TTL: time.Duration(aws.ToInt64(s.TTL)) * time.Second})
	}
	return out
}

// whole gives an error also where the SDK, which takes any body of a 200 for an
// empty answer, misses what every answer has.
func whole(err error, complete bool) error {
	if err == nil && !complete {
		return errors.New("a required element is missing")
	}
	return err
}

// call runs one call of the SDK. AWS has codes of its own for what a status does
// not say.
func (p *route53Zone) call(ctx context.Context, do func(context.Context) error) *problem.Error {
	ctx, x := observed(ctx)
	err := recovered(func() error { return do(ctx) })
	if err == nil {
		return nil
	}
	e := x.problemOf(ctx, err, "route53.amazonaws.com", p.c.opt.Clock.Now())
	e.Cause = err
	var api smithy.APIError
	if errors.As(err, &api) {
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
