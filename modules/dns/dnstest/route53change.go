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

type r53Batch struct {
	Changes []r53Change `xml:"ChangeBatch>Changes>Change"`
}

func (b r53Batch) shrinks() bool {
	n := 0
	for _, c := range b.Changes {
		if c.Action == "DELETE" {
			n -= len(c.Set.Records)
		} else {
			n += len(c.Set.Records)
		}
	}
	return n < 0
}

// changeSets applies a batch of changes, all or none, one after the other; each
// is about a whole set.
func (r *route53) changeSets(rw http.ResponseWriter, req *http.Request, zone string) {
	var in r53Batch
	if err := xml.NewDecoder(req.Body).Decode(&in); err != nil || len(in.Changes) == 0 {
		r53Fail(rw, http.StatusBadRequest, "MalformedInput", "Unexpected or malformed XML in the request")
		return
	}
	r.batch.Lock()
	defer r.batch.Unlock()
	before := r.world.zones.list(func(rec Record) bool { return r.world.zones.zoneOf(rec.Name) == zone })
	after := slices.Clone(before)
	for _, c := range in.Changes {
		next, wrong := applySet(after, zone, c)
		if wrong != "" {
			r53Fail(rw, http.StatusBadRequest, "InvalidChangeBatch", "["+wrong+"]")
			return
		}
		after = next
	}
	add, remove := difference(before, after)
	if _, err := r.world.zones.change(add, remove); err != nil {
		r53Fail(rw, http.StatusBadRequest, "InvalidChangeBatch", fmt.Sprintf("[RRSet of type %s with DNS name %s is not permitted "+
			"because a conflicting RRSet of type CNAME with the same DNS name already exists in zone %s.]",
			in.Changes[0].Set.Type, in.Changes[0].Set.Name, zone+"."))
		return
	}
	r53Reply(rw, http.StatusOK, struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeResourceRecordSetsResponse"`
		r53ChangeInfo
	}{r53ChangeInfo: r.submitted()})
}

// difference returns what turns before into after, so that the past shows true
// changes only: a value that is deleted and created in one batch stays.
func difference(before, after []Record) (add []Record, remove []int) {
	same := func(a Record) func(Record) bool {
		return func(b Record) bool {
			return a.Name == b.Name && a.Type == b.Type && a.Value == b.Value && a.TTL == b.TTL
		}
	}
	for _, rec := range before {
		if !slices.ContainsFunc(after, same(rec)) {
			remove = append(remove, rec.ID)
		}
	}
	for _, rec := range after {
		if !slices.ContainsFunc(before, same(rec)) {
			add = append(add, rec)
		}
	}
	return add, remove
}

// applySet returns the zone's records after a change, or what is wrong with it in
// the API's words.
func applySet(records []Record, zone string, c r53Change) (after []Record, wrong string) {
	name := cleanName(c.Set.Name)
	if name != zone && !strings.HasSuffix(name, "."+zone) {
		return nil, fmt.Sprintf("RRSet with DNS name %s. is not permitted in zone %s.", name, zone)
	}
	want, wrong := c.Set.values()
	if wrong != "" {
		return nil, wrong
	}
	var have []Record
	for _, rec := range records {
		if rec.Name == name && rec.Type == c.Set.Type {
			have = append(have, rec)
		} else {
			after = append(after, rec)
		}
	}
	set := fmt.Sprintf("resource record set [name='%s.', type='%s']", name, c.Set.Type)
	ttl := time.Duration(c.Set.TTL) * time.Second
	switch {
	case c.Action == "DELETE" && len(have) == 0:
		return nil, "Tried to delete " + set + " but it was not found"
	case c.Action == "DELETE" && !sameSet(have, want, ttl):
		return nil, "Tried to delete " + set + " but the values provided do not match the current values"
	case c.Action == "DELETE":
		return after, ""
	case c.Action == "CREATE" && len(have) > 0:
		return nil, "Tried to create " + set + " but it already exists"
	case c.Action != "CREATE" && c.Action != "UPSERT":
		return nil, "Invalid action: " + c.Action
	}
	for _, v := range want {
		after = append(after, Record{Name: name, Type: c.Set.Type, Value: v, TTL: ttl})
	}
	return after, ""
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

// values checks a set's values and returns them without TXT quoting.
func (s r53Set) values() (out []string, wrong string) {
	if len(s.Records) == 0 {
		return nil, "Invalid request: expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], " +
			"but found none in Change with [Action=..., Name=" + s.Name + "]"
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
