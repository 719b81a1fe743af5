package dns

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go/middleware"

	"moonseal/runtime/problem"
)

// recordSet is the one set that a call of the library is about.
type recordSet struct {
	name, typ string
	read      *types.ResourceRecordSet // as it was read last; nil if there is none
}

type recordSetKey struct{}

func about(ctx context.Context, name, typ string) context.Context {
	return context.WithValue(ctx, recordSetKey{}, &recordSet{name: name, typ: typ})
}

// reshape sits between the library and the API. The library lists whole zones; it gets
// the one set that its call is about. And it writes whole sets over whatever is there by
// then; that becomes a swap which Route 53 refuses if the set is not the one that was
// read, so that no value of another run, on whatever machine, is lost.
func reshape(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (out middleware.InitializeOutput, meta middleware.Metadata, err error) {
	set, _ := ctx.Value(recordSetKey{}).(*recordSet)
	switch asked := in.Parameters.(type) {
	case *sdk.ListResourceRecordSetsInput:
		if set != nil {
			in.Parameters = &sdk.ListResourceRecordSetsInput{
				HostedZoneId: asked.HostedZoneId, StartRecordName: aws.String(fqdn(set.name)), StartRecordType: types.RRType(set.typ), MaxItems: aws.Int32(1),
			}
		}
	case *sdk.ChangeResourceRecordSetsInput:
		batch, err := set.swap(asked.ChangeBatch)
		if err != nil {
			return out, meta, err
		}
		if batch == nil {
			out.Result = &sdk.ChangeResourceRecordSetsOutput{ChangeInfo: &types.ChangeInfo{}}
			return out, meta, nil
		}
		in.Parameters = &sdk.ChangeResourceRecordSetsInput{HostedZoneId: asked.HostedZoneId, ChangeBatch: batch}
	}
	out, meta, err = next.HandleInitialize(ctx, in)
	if err != nil {
		return out, meta, err
	}
	// The SDK takes any body of a 200 for an empty answer.
	complete := true
	switch got := out.Result.(type) {
	case *sdk.ListHostedZonesByNameOutput:
		complete = got.MaxItems != nil
	case *sdk.ChangeResourceRecordSetsOutput:
		complete = got.ChangeInfo != nil
	case *sdk.ListResourceRecordSetsOutput:
		complete = got.MaxItems != nil
		set.note(got)
	}
	if !complete {
		err = errors.New("a required element is missing")
	}
	return out, meta, err
}

// note records the set, and leaves the library nothing else to read. Names lose their
// escapes, which the library does not know. A nil s takes the whole zone.
func (s *recordSet) note(page *sdk.ListResourceRecordSetsOutput) {
	var kept []types.ResourceRecordSet
	if s != nil {
		s.read, page.IsTruncated = nil, false
	}
	for _, r := range page.ResourceRecordSets {
		raw := r
		r.Name = aws.String(strings.ToLower(unescape(aws.ToString(r.Name), 8)))
		switch {
		case s == nil:
			kept = append(kept, r)
		case *r.Name == fqdn(s.name) && string(r.Type) == s.typ:
			s.read, kept = &raw, append(kept, r)
		}
	}
	page.ResourceRecordSets = kept
}

// swap returns the batch that takes away the set that was read and creates the one that
// the library asks for; Route 53 does both or neither. nil if both are the same.
func (s *recordSet) swap(asked *types.ChangeBatch) (*types.ChangeBatch, error) {
	if s == nil || len(asked.Changes) != 1 {
		return nil, errors.New("a change of more than one record set")
	}
	had, to := valuesOf(s.read), asked.Changes[0]
	var want []string
	if to.Action != types.ChangeActionDelete {
		want = asTheyStood(had, valuesOf(to.ResourceRecordSet))
	}
	if slices.Equal(had, want) {
		return nil, nil //nolint:nilnil // there is nothing to change
	}
	batch := &types.ChangeBatch{}
	if s.read != nil {
		if s.read.AliasTarget != nil || s.read.SetIdentifier != nil {
			return nil, &problem.Error{Kind: problem.Conflict, Target: s.name, Work: problem.NotDone, Message: "the " + s.typ + " records there are an alias or have a routing policy"}
		}
		batch.Changes = append(batch.Changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: s.read})
	}
	if len(want) > 0 {
		fresh := *to.ResourceRecordSet
		fresh.ResourceRecords = nil
		for _, v := range want {
			fresh.ResourceRecords = append(fresh.ResourceRecords, types.ResourceRecord{Value: &v})
		}
		batch.Changes = append(batch.Changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: &fresh})
	}
	return batch, nil
}

func valuesOf(set *types.ResourceRecordSet) []string {
	var out []string
	if set != nil {
		for _, r := range set.ResourceRecords {
			out = append(out, aws.ToString(r.Value))
		}
	}
	return out
}

// asTheyStood returns values without doubles, and those which were there before to
// the letter: the library drops quotes at a text's ends and joins its strings.
func asTheyStood(had, values []string) []string {
	var out []string
	for _, v := range values {
		if i := slices.IndexFunc(had, func(h string) bool { return libraryText(h) == libraryText(v) }); i >= 0 {
			v = had[i]
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// libraryText returns a value as the library reads it.
func libraryText(value string) string {
	text, err := joinQuoted(value, 8)
	if err != nil {
		return value
	}
	return strings.Trim(text, `"`)
}
