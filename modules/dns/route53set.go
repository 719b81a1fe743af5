package dns

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
)

func (p *route53Zone) add(ctx context.Context, apex string, records []Record) ([]Record, error) {
	if len(records) == 0 {
		return nil, nil
	}
	err := p.change(ctx, apex, records[0], func(values []string) []string {
		for _, r := range records {
			if !slices.ContainsFunc(values, func(v string) bool { return sameText(v, r.Value) }) {
				values = append(values, quoted(r.Value))
			}
		}
		return values
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

func (p *route53Zone) remove(ctx context.Context, apex string, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	return p.change(ctx, apex, records[0], func(values []string) []string {
		return slices.DeleteFunc(values, func(v string) bool {
			return slices.ContainsFunc(records, func(r Record) bool { return sameText(v, r.Value) })
		})
	})
}

func sameText(value, text string) bool {
	got, err := joinQuoted(value, 8)
	return err == nil && got == text
}

// maxTurns bounds how often a set that others change at the same time is read
// again.
const maxTurns = 6

// change replaces the values of like's record set by what edit makes of them. The
// old set is deleted and the new one created in one batch, which Route 53 refuses
// as a whole where the old set is not what was read: no other run's value is lost.
func (p *route53Zone) change(ctx context.Context, apex string, like Record, edit func([]string) []string) error {
	id, err := p.zoneID(ctx, apex)
	if err != nil {
		return err
	}
	var last error
	for range maxTurns {
		old, err := p.set(ctx, id, like.Name, like.Type)
		if err != nil {
			return err
		}
		batch := replace(old, like, edit)
		if batch == nil {
			return nil
		}
		refused := p.call(ctx, func(ctx context.Context) error {
			out, err := p.api.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &id, ChangeBatch: &types.ChangeBatch{Changes: batch}})
			return whole(err, err != nil || out.ChangeInfo != nil)
		})
		var api smithy.APIError
		switch {
		case refused == nil:
			return nil
		case !errors.As(refused, &api) || api.ErrorCode() != "InvalidChangeBatch" || !overtaken(refused.Server):
			return refused
		}
		last = refused
	}
	return last
}

// overtaken reports whether a batch was refused because the set is another now.
func overtaken(words string) bool {
	return strings.Contains(words, "but it already exists") || strings.Contains(words, "but it was not found") || strings.Contains(words, "do not match the current values")
}

// replace gives the batch; nil where nothing changes.
func replace(old *types.ResourceRecordSet, like Record, edit func([]string) []string) []types.Change {
	var had []string
	ttl := int64(like.TTL.Seconds())
	if old != nil {
		ttl = aws.ToInt64(old.TTL)
		for _, r := range old.ResourceRecords {
			had = append(had, aws.ToString(r.Value))
		}
	}
	want := edit(slices.Clone(had))
	if slices.Equal(had, want) {
		return nil
	}
	var batch []types.Change
	if old != nil {
		batch = append(batch, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: old})
	}
	if len(want) > 0 {
		fresh := &types.ResourceRecordSet{Name: aws.String(fqdn(like.Name)), Type: types.RRType(like.Type), TTL: &ttl}
		for _, v := range want {
			fresh.ResourceRecords = append(fresh.ResourceRecords, types.ResourceRecord{Value: &v})
		}
		batch = append(batch, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: fresh})
	}
	return batch
}
