package dnstest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// update serves a dynamic update (RFC 2136) that a TSIG (RFC 8945) must sign.
func (w *World) update(ctx context.Context, rw dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	a := faulty(ctx, w.opt.Faults, q, func() *dns.Msg {
		if rcode, tsigError := w.authenticate(rw, q); rcode != dns.RcodeSuccess {
			return refusedTsig(q, rcode, tsigError)
		}
		return new(dns.Msg).SetRcode(q, w.applyUpdate(q))
	}, "dns.rfc2136.update")
	return w.sign(a, rw, q)
}

// refusedTsig is the answer to a signature that is not accepted.
func refusedTsig(q *dns.Msg, rcode int, tsigError uint16) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	if tsigError != 0 {
		m.SetTsig(q.IsTsig().Hdr.Name, q.IsTsig().Algorithm, 300, signingTime())
		m.IsTsig().Error = tsigError
	}
	return m
}

// sign signs the answer to a question whose own signature was good.
func (w *World) sign(a *dns.Msg, rw dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	if a == nil || a.IsTsig() != nil || q.IsTsig() == nil || rw.TsigStatus() != nil {
		return a
	}
	t := q.IsTsig()
	return a.SetTsig(dns.CanonicalName(t.Hdr.Name), dns.CanonicalName(t.Algorithm), 300, signingTime()) // as BIND does
}

// signingTime is real: the library that checks a TSIG asks no injected clock.
func signingTime() int64 { return time.Now().Unix() }

// authenticate returns the RCODE, and the TSIG error if there is one (RFC 8945 section
// 5.2).
func (w *World) authenticate(rw dns.ResponseWriter, q *dns.Msg) (rcode int, tsigError uint16) {
	t := q.IsTsig()
	if t == nil {
		return dns.RcodeRefused, 0
	}
	c := w.opt.Credentials
	if !sameName(t.Hdr.Name, c.TSIGName) || !sameName(t.Algorithm, c.TSIGAlgorithm) {
		return dns.RcodeNotAuth, dns.RcodeBadKey
	}
	switch err := rw.TsigStatus(); {
	case err == nil:
		return dns.RcodeSuccess, 0
	case errors.Is(err, dns.ErrTime):
		return dns.RcodeNotAuth, dns.RcodeBadTime
	default:
		return dns.RcodeNotAuth, dns.RcodeBadSig
	}
}

func (w *World) applyUpdate(q *dns.Msg) int {
	if len(q.Question) != 1 || q.Question[0].Qtype != dns.TypeSOA {
		return dns.RcodeFormatError
	}
	zone := cleanName(q.Question[0].Name)
	if !slices.Contains(w.zones.apexes(), zone) {
		return dns.RcodeNotAuth
	}
	for _, rr := range q.Answer {
		if rcode := w.prerequisite(zone, rr); rcode != dns.RcodeSuccess {
			return rcode
		}
	}
	var add []Record
	var remove []int
	for _, rr := range q.Ns {
		if w.zones.zoneOf(rr.Header().Name) != zone {
			return dns.RcodeNotZone
		}
		switch rr.Header().Class {
		case dns.ClassINET:
			add = w.addition(add, remove, recordOf(rr))
		case dns.ClassANY, dns.ClassNONE:
			gone := w.removal(rr)
			remove = append(remove, gone...)
		default:
			return dns.RcodeFormatError
		}
	}
	if _, err := w.zones.change(add, remove); err != nil {
		return dns.RcodeServerFailure
	}
	return dns.RcodeSuccess
}

// addition leaves out what is there already and what a CNAME forbids, silently
// (RFC 2136 section 3.4.2.2).
func (w *World) addition(add []Record, removing []int, r Record) []Record {
	same := func(o Record) bool {
		return o.Name == r.Name && !slices.Contains(removing, o.ID) &&
			(o.Type == r.Type && o.Value == r.Value || (o.Type == "CNAME") != (r.Type == "CNAME"))
	}
	if len(w.zones.list(same)) > 0 || slices.ContainsFunc(add, same) {
		return add
	}
	return append(add, r)
}

// removal returns the ids of what rr deletes: class ANY a name or a set, class NONE
// one record (RFC 2136 section 2.5).
func (w *World) removal(rr dns.RR) []int {
	h := rr.Header()
	want := recordOf(rr)
	var ids []int
	for _, r := range w.zones.list(func(r Record) bool {
		switch {
		case r.Name != want.Name:
			return false
		case h.Class == dns.ClassANY && h.Rrtype == dns.TypeANY:
			return true
		case h.Class == dns.ClassANY:
			return r.Type == want.Type
		default:
			return r.Type == want.Type && r.Value == want.Value
		}
	}) {
		ids = append(ids, r.ID)
	}
	return ids
}

// prerequisite checks the forms that need no value (RFC 2136 section 2.4).
func (w *World) prerequisite(zone string, rr dns.RR) int {
	h := rr.Header()
	if w.zones.zoneOf(h.Name) != zone {
		return dns.RcodeNotZone
	}
	want := recordOf(rr)
	n := len(w.zones.list(func(r Record) bool {
		return r.Name == want.Name && (h.Rrtype == dns.TypeANY || r.Type == want.Type)
	}))
	switch {
	case h.Class == dns.ClassANY && n == 0:
		if h.Rrtype == dns.TypeANY {
			return dns.RcodeNameError
		}
		return dns.RcodeNXRrset
	case h.Class == dns.ClassNONE && n > 0:
		if h.Rrtype == dns.TypeANY {
			return dns.RcodeYXDomain
		}
		return dns.RcodeYXRrset
	case h.Class != dns.ClassANY && h.Class != dns.ClassNONE:
		return dns.RcodeNotImplemented // with values: unused here
	}
	return dns.RcodeSuccess
}

// transfer serves a signed zone transfer (RFC 5936).
func (w *World) transfer(ctx context.Context, rw dns.ResponseWriter, q *dns.Msg, view int) *dns.Msg {
	zone := cleanName(q.Question[0].Name)
	sent := false
	a := faulty(ctx, w.opt.Faults, q, func() *dns.Msg {
		if rcode, _ := w.authenticate(rw, q); rcode != dns.RcodeSuccess || w.opt.NoTransfer {
			return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		}
		if !slices.Contains(w.zones.apexes(), zone) {
			return new(dns.Msg).SetRcode(q, dns.RcodeNotAuth)
		}
		rrs := w.zones.seen(view, zone)
		ch := make(chan *dns.Envelope, 1)
		ch <- &dns.Envelope{RR: append(rrs, rrs[0])}
		close(ch)
		sent = new(dns.Transfer).Out(rw, q, ch) == nil
		return nil
	}, "dns.rfc2136.transfer")
	if sent || a == nil {
		return nil
	}
	if strings.HasPrefix(rw.RemoteAddr().Network(), "udp") {
		return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	}
	return w.sign(a, rw, q)
}
