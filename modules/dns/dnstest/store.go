package dnstest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"
)

// store is the zones' contents with their past, so that each server can show
// the state of a while ago.
type store struct {
	mu      sync.Mutex
	clock   clockwork.Clock
	zones   []string // lower case, no trailing dot, longest first
	delays  []time.Duration
	entries []*entry
	events  []Event
	next    int
	serial  uint32
}

type entry struct {
	Record
	rr      dns.RR
	added   time.Time
	removed time.Time // zero while it is there
}

func newStore(clock clockwork.Clock, zones []string, servers int, delays []time.Duration) *store {
	s := &store{clock: clock, delays: make([]time.Duration, servers), next: 1000, serial: 1}
	copy(s.delays, delays)
	for _, z := range zones {
		s.zones = append(s.zones, cleanName(z))
	}
	slices.SortFunc(s.zones, func(a, b string) int { return len(b) - len(a) })
	return s
}

// errConflict says that a CNAME and another record cannot coexist at one name (RFC 1034
// section 3.6.2).
var errConflict = errors.New("a CNAME cannot coexist with another record of the same name")

func (s *store) add(r Record) (Record, error) {
	all, err := s.change([]Record{r}, nil)
	if err != nil {
		return Record{}, err
	}
	return all[0], nil
}

// change removes and then adds records, all or nothing, and returns the added
// ones with their IDs.
func (s *store) change(add []Record, removeIDs []int) ([]Record, error) {
	fresh := make([]*entry, 0, len(add))
	for _, r := range add {
		e, err := newEntry(r)
		if err != nil {
			return nil, err
		}
		if s.zoneOf(e.Name) == "" {
			return nil, fmt.Errorf("%s is in no zone of this world", e.Name)
		}
		fresh = append(fresh, e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range fresh {
		if s.conflicts(e, removeIDs) {
			return nil, errConflict
		}
	}
	now := s.clock.Now()
	s.drop(now, func(r Record) bool { return slices.Contains(removeIDs, r.ID) })
	out := make([]Record, 0, len(fresh))
	for _, e := range fresh {
		s.next++
		e.ID, e.added = s.next, now
		s.entries = append(s.entries, e)
		s.note(e.Record, "add", now)
		out = append(out, e.Record)
	}
	return out, nil
}

func (s *store) conflicts(e *entry, removing []int) bool {
	for _, o := range s.entries {
		if !o.removed.IsZero() || o.Name != e.Name || slices.Contains(removing, o.ID) {
			continue
		}
		if o.Type == "CNAME" || e.Type == "CNAME" {
			return true
		}
	}
	return false
}

func (s *store) remove(match func(Record) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(s.clock.Now(), match)
}

func (s *store) drop(now time.Time, match func(Record) bool) int {
	n := 0
	for _, e := range s.entries {
		if e.removed.IsZero() && match(e.Record) {
			e.removed = now
			s.note(e.Record, "remove", now)
			n++
		}
	}
	return n
}

func (s *store) note(r Record, action string, now time.Time) {
	s.serial++
	if r.Type == "TXT" {
		s.events = append(s.events, Event{Text: Text{r.Name, r.Value}, Action: action, At: now})
	}
}

// list returns the records that are there now and match; all if match is nil.
func (s *store) list(match func(Record) bool) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Record{}
	for _, e := range s.entries {
		if e.removed.IsZero() && (match == nil || match(e.Record)) {
			out = append(out, e.Record)
		}
	}
	return out
}

func (s *store) ledger() Ledger {
	l := Ledger{Present: []Text{}, History: []Event{}}
	for _, r := range s.list(func(r Record) bool { return r.Type == "TXT" }) {
		l.Present = append(l.Present, Text{r.Name, r.Value})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.History = append(l.History, s.events...)
	return l
}

func (s *store) setDelay(server int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays[server] = d
}

func (s *store) apexes() []string { return slices.Clone(s.zones) }

// zoneOf returns the longest zone that holds name; "" if there is none.
func (s *store) zoneOf(name string) string {
	name = cleanName(name)
	for _, z := range s.zones {
		if name == z || strings.HasSuffix(name, "."+z) {
			return z
		}
	}
	return ""
}

// slowest as a view means: what every server shows.
const slowest = -1

// seen returns the RRs that a view (a server's index, or slowest) shows now in zone.
func (s *store) seen(view int, zone string) []dns.RR {
	s.mu.Lock()
	defer s.mu.Unlock()
	delay := slices.Max(s.delays)
	if view != slowest {
		delay = s.delays[view]
	}
	moment := s.clock.Now().Add(-delay)
	rrs := s.apexRecords(zone)
	for _, e := range s.entries {
		if s.zoneOf(e.Name) != zone || e.added.After(moment) || (!e.removed.IsZero() && !e.removed.After(moment)) {
			continue
		}
		rrs = append(rrs, dns.Copy(e.rr))
	}
	return rrs
}

// soa returns zone's SOA; the store's serial counts every change.
func (s *store) soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: dns.Fqdn(zone), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  serverName(0, zone), Mbox: "hostmaster." + dns.Fqdn(zone),
		Serial: s.serial, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
	}
}

func (s *store) apexRecords(zone string) []dns.RR {
	rrs := []dns.RR{s.soa(zone)}
	for i := range s.delays {
		name := serverName(i, zone)
		rrs = append(rrs,
			&dns.NS{Hdr: dns.RR_Header{Name: dns.Fqdn(zone), Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: name},
			&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{127, 0, 0, 1}})
	}
	return rrs
}

func newEntry(r Record) (*entry, error) {
	if _, ok := dns.IsDomainName(r.Name); !ok || r.Name == "" {
		return nil, fmt.Errorf("%q is not a valid domain name", r.Name)
	}
	r.Name, r.Type = cleanName(r.Name), strings.ToUpper(r.Type)
	if r.TTL == 0 {
		r.TTL = time.Minute
	}
	data := r.Value
	if r.Type == "TXT" {
		data = quoteText(r.Value)
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", dns.Fqdn(r.Name), int(r.TTL.Seconds()), r.Type, data))
	if err != nil {
		return nil, fmt.Errorf("%s record: %w", r.Type, err)
	}
	if rr == nil {
		return nil, fmt.Errorf("%s record without a value", r.Type)
	}
	return &entry{Record: r, rr: rr}, nil
}

// recordOf returns a wire RR as a Record.
func recordOf(rr dns.RR) Record {
	h := rr.Header()
	r := Record{Name: cleanName(h.Name), Type: dns.TypeToString[h.Rrtype], TTL: time.Duration(h.Ttl) * time.Second}
	if txt, ok := rr.(*dns.TXT); ok {
		for _, part := range txt.Txt {
			r.Value += unquoteText(part)
		}
		return r
	}
	r.Value = strings.TrimPrefix(rr.String(), h.String())
	return r
}
