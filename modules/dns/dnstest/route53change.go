package dnstest

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

type r53Change struct {
	Action string `xml:"Action"`
	Set    r53Set `xml:"ResourceRecordSet"`
}

// changeSets applies a batch of changes, all or none; each is about a whole set.
func (r *route53) changeSets(rw http.ResponseWriter, req *http.Request, zone string) {
	var in struct {
		Changes []r53Change `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.NewDecoder(req.Body).Decode(&in); err != nil || len(in.Changes) == 0 {
		r53Fail(rw, http.StatusBadRequest, "MalformedInput", "Unexpected or malformed XML in the request")
		return
	}
	var add []Record
	var remove []int
	for _, c := range in.Changes {
		plus, minus, wrong := r.plan(zone, c)
		if wrong != "" {
			r53Fail(rw, http.StatusBadRequest, "InvalidChangeBatch", "["+wrong+"]")
			return
		}
		add, remove = append(add, plus...), append(remove, minus...)
	}
	if _, err := r.world.zones.change(add, remove); err != nil {
		r53Fail(rw, http.StatusBadRequest, "InvalidChangeBatch", fmt.Sprintf("[RRSet of type %s with DNS name %s is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone %s.]",
			in.Changes[0].Set.Type, in.Changes[0].Set.Name, zone+"."))
		return
	}
	r53Reply(rw, http.StatusOK, struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeResourceRecordSetsResponse"`
		r53ChangeInfo
	}{r53ChangeInfo: r.submitted()})
}

// plan gives what a change adds and removes, or what is wrong with it in the
// API's words. An upsert leaves what stays, so that the past shows true changes.
func (r *route53) plan(zone string, c r53Change) (add []Record, remove []int, wrong string) {
	name := cleanName(c.Set.Name)
	if name != zone && !strings.HasSuffix(name, "."+zone) {
		return nil, nil, fmt.Sprintf("RRSet with DNS name %s. is not permitted in zone %s.", name, zone)
	}
	want, wrong := c.Set.values()
	if wrong != "" {
		return nil, nil, wrong
	}
	have := r.world.zones.list(func(rec Record) bool { return rec.Name == name && rec.Type == c.Set.Type })
	said := fmt.Sprintf("resource record set [name='%s.', type='%s']", name, c.Set.Type)
	ttl := time.Duration(c.Set.TTL) * time.Second
	switch c.Action {
	case "DELETE":
		switch {
		case len(have) == 0:
			return nil, nil, "Tried to delete " + said + " but it was not found"
		case !sameSet(have, want, ttl):
			return nil, nil, "Tried to delete " + said + " but the values provided do not match the current values"
		}
		want = nil
	case "CREATE":
		if len(have) > 0 {
			return nil, nil, "Tried to create " + said + " but it already exists"
		}
	case "UPSERT":
	default:
		return nil, nil, "Invalid action: " + c.Action
	}
	for _, rec := range have {
		if !slices.Contains(want, rec.Value) || rec.TTL != ttl {
			remove = append(remove, rec.ID)
		}
	}
	for _, v := range want {
		if !slices.ContainsFunc(have, func(rec Record) bool { return rec.Value == v && rec.TTL == ttl }) {
			add = append(add, Record{Name: name, Type: c.Set.Type, Value: v, TTL: ttl})
		}
	}
	return add, remove, ""
}

func sameSet(have []Record, want []string, ttl time.Duration) bool {
	if len(have) != len(want) {
		return false
	}
	for _, rec := range have {
		if !slices.Contains(want, rec.Value) || rec.TTL != ttl {
			return false
		}
	}
	return true
}

// values checks a set's values and gives them without TXT quoting.
func (s r53Set) values() (out []string, wrong string) {
	if len(s.Records) == 0 {
		return nil, "Invalid request: expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none in Change with [Action=..., Name=" + s.Name + "]"
	}
	for _, rec := range s.Records {
		v := rec.Value
		if s.Type == "TXT" {
			parts, err := quotedStrings(r53Octal(v))
			if err != nil {
				return nil, fmt.Sprintf("Invalid Resource Record: 'FATAL problem: InvalidCharacterString (%s) encountered with '%s''", err, v)
			}
			v = strings.Join(parts, "")
		}
		if slices.Contains(out, v) {
			return nil, fmt.Sprintf("Duplicate Resource Record: '%s'", rec.Value)
		}
		out = append(out, v)
	}
	return out, ""
}
