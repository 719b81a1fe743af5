package dnstest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// route53 imitates the REST API of Amazon Route 53, version 2013-04-01, the part
// for hosted zones and resource record sets.
type route53 struct {
	world *World
	batch sync.Mutex // a batch is read, checked and applied alone

	mu      sync.Mutex
	changes map[string]time.Time // by id, when it was asked for
}

func newRoute53(w *World) http.Handler {
	r := &route53{world: w, changes: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2013-04-01/hostedzonesbyname", r.zonesByName)
	mux.HandleFunc("GET /2013-04-01/hostedzone/{zone}/rrset", r.inZone(r.listSets))
	mux.HandleFunc("POST /2013-04-01/hostedzone/{zone}/rrset", r.inZone(r.changeSets))
	mux.HandleFunc("GET /2013-04-01/change/{id}", r.getChange)
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		r53Fail(rw, http.StatusNotFound, "UnknownOperationException", "no such operation")
	})
	return r.authenticated(mux)
}

// route53Call distinguishes a change that leaves fewer values from any other.
func route53Call(r *http.Request) string {
	switch {
	case !strings.HasSuffix(r.URL.Path, "/rrset"):
		return "dns.route53.zones"
	case r.Method == http.MethodGet:
		return "dns.route53.list"
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var in r53Batch
	if err == nil && xml.Unmarshal(body, &in) == nil && in.shrinks() {
		return "dns.route53.delete"
	}
	return "dns.route53.create"
}

func r53Reply(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "text/xml")
	rw.Header().Set("X-Amzn-Requestid", "lab-request")
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, xml.Header)
	_ = xml.NewEncoder(rw).Encode(body)
}

type r53Error struct {
	XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ErrorResponse"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}

func r53Fail(rw http.ResponseWriter, status int, code, message string) {
	r53Reply(rw, status, r53Error{Type: "Sender", Code: code, Message: message, Request: "lab-request"})
}

type r53Set struct {
	Name    string      `xml:"Name"`
	Type    string      `xml:"Type"`
	TTL     int         `xml:"TTL"`
	Records []r53Record `xml:"ResourceRecords>ResourceRecord"`
}

type r53Record struct {
	Value string `xml:"Value"`
}

type r53Zone struct {
	ID    string `xml:"Id"`
	Name  string `xml:"Name"`
	Ref   string `xml:"CallerReference"`
	Count int    `xml:"ResourceRecordSetCount"`
}

func r53ZoneID(zone string) string { return "Z" + strings.ToUpper(cfZoneID(zone)[:20]) }

// zonesByName lists from dnsname on, in the order of reversed labels, also zones
// of other names: the client has to compare.
func (r *route53) zonesByName(rw http.ResponseWriter, req *http.Request) {
	zones := r.world.zones.apexes()
	slices.SortFunc(zones, func(a, b string) int { return strings.Compare(reversed(a), reversed(b)) })
	from := cleanName(req.URL.Query().Get("dnsname"))
	out := struct {
		XMLName   xml.Name  `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListHostedZonesByNameResponse"`
		Zones     []r53Zone `xml:"HostedZones>HostedZone"`
		DNSName   string    `xml:"DNSName,omitempty"`
		Truncated bool      `xml:"IsTruncated"`
		MaxItems  int       `xml:"MaxItems"`
	}{DNSName: from, MaxItems: atoi(req.URL.Query().Get("maxitems"), 100)}
	for _, z := range zones {
		if reversed(z) < reversed(from) {
			continue
		}
		if len(out.Zones) == out.MaxItems {
			out.Truncated = true
			break
		}
		out.Zones = append(out.Zones, r53Zone{ID: "/hostedzone/" + r53ZoneID(z), Name: z + ".", Ref: "lab", Count: 2})
	}
	r53Reply(rw, http.StatusOK, out)
}

// reversed returns a name's labels from the root down: the API's order.
func reversed(name string) string {
	labels := strings.Split(cleanName(name), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

func (r *route53) inZone(do func(rw http.ResponseWriter, req *http.Request, zone string)) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		id := req.PathValue("zone")
		for _, z := range r.world.zones.apexes() {
			if r53ZoneID(z) == id {
				do(rw, req, z)
				return
			}
		}
		r53Fail(rw, http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found with ID: "+id)
	}
}

// sets groups a zone's records by name and type, in the API's order. The apex has
// its NS and SOA sets, as real zones do.
func (r *route53) sets(zone string) []r53Set {
	var out []r53Set
	add := func(rec Record) {
		value := rec.Value
		if rec.Type == "TXT" {
			value = quoteTextAs(rec.Value, `\%03o`) // octal, as its guide says
		}
		i := slices.IndexFunc(out, func(s r53Set) bool { return s.Name == rec.Name+"." && s.Type == rec.Type })
		if i < 0 {
			i = len(out)
			out = append(out, r53Set{Name: rec.Name + ".", Type: rec.Type, TTL: int(rec.TTL.Seconds())})
		}
		out[i].Records = append(out[i].Records, r53Record{value})
	}
	for _, rr := range r.world.zones.seen(0, zone) {
		if t := rr.Header().Rrtype; t == dns.TypeNS || t == dns.TypeSOA {
			add(recordOf(rr))
		}
	}
	for _, rec := range r.world.zones.list(func(rec Record) bool { return r.world.zones.zoneOf(rec.Name) == zone }) {
		add(rec)
	}
	slices.SortStableFunc(out, compareSets)
	return out
}

func compareSets(a, b r53Set) int {
	if c := strings.Compare(reversed(a.Name), reversed(b.Name)); c != 0 {
		return c
	}
	return strings.Compare(a.Type, b.Type)
}

func (r *route53) listSets(rw http.ResponseWriter, req *http.Request, zone string) {
	q := req.URL.Query()
	if q.Get("type") != "" && q.Get("name") == "" {
		r53Fail(rw, http.StatusBadRequest, "InvalidInput", "The input is not valid: type without name")
		return
	}
	out := struct {
		XMLName   xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListResourceRecordSetsResponse"`
		Sets      []r53Set `xml:"ResourceRecordSets>ResourceRecordSet"`
		Truncated bool     `xml:"IsTruncated"`
		MaxItems  int      `xml:"MaxItems"`
		NextName  string   `xml:"NextRecordName,omitempty"`
		NextType  string   `xml:"NextRecordType,omitempty"`
	}{MaxItems: min(max(1, atoi(q.Get("maxitems"), 300)), 300)}
	from := r53Set{Name: q.Get("name"), Type: q.Get("type")}
	for _, set := range r.sets(zone) {
		if from.Name != "" && compareSets(set, from) < 0 {
			continue
		}
		if len(out.Sets) == out.MaxItems {
			out.Truncated, out.NextName, out.NextType = true, set.Name, set.Type
			break
		}
		out.Sets = append(out.Sets, set)
	}
	r53Reply(rw, http.StatusOK, out)
}

type r53ChangeInfo struct {
	ID        string    `xml:"ChangeInfo>Id"`
	Status    string    `xml:"ChangeInfo>Status"`
	Submitted time.Time `xml:"ChangeInfo>SubmittedAt"`
}

func (r *route53) submitted() r53ChangeInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := "C" + strconv.Itoa(10000+len(r.changes))
	now := r.world.opt.Clock.Now()
	r.changes[id] = now
	return r53ChangeInfo{ID: "/change/" + id, Status: r.status(now), Submitted: now.UTC()}
}

func (r *route53) status(at time.Time) string {
	if r.world.opt.Clock.Since(at) < r.world.opt.ChangeDelay {
		return "PENDING"
	}
	return "INSYNC"
}

func (r *route53) getChange(rw http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	r.mu.Lock()
	at, ok := r.changes[id]
	r.mu.Unlock()
	if !ok {
		r53Fail(rw, http.StatusNotFound, "NoSuchChange", fmt.Sprintf("A change with the ID %s does not exist.", id))
		return
	}
	r53Reply(rw, http.StatusOK, struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ GetChangeResponse"`
		r53ChangeInfo
	}{r53ChangeInfo: r53ChangeInfo{ID: "/change/" + id, Status: r.status(at), Submitted: at.UTC()}})
}
