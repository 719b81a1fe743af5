package dnstest

import (
	"io"
	"net/http"

	"github.com/miekg/dns"
)

func dohCall(*http.Request) string { return "dns.doh.query" }

// serveDoH answers a DNS over HTTPS question (RFC 8484, POST) as the resolver does.
func (w *World) serveDoH(rw http.ResponseWriter, r *http.Request) {
	const message = "application/dns-message"
	body, err := io.ReadAll(io.LimitReader(r.Body, dns.MaxMsgSize))
	q := new(dns.Msg)
	switch {
	case r.URL.Path != "/dns-query":
		http.NotFound(rw, r)
		return
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != message:
		http.Error(rw, "POST "+message, http.StatusUnsupportedMediaType)
		return
	case err != nil || q.Unpack(body) != nil || len(q.Question) != 1:
		http.Error(rw, "not a DNS message", http.StatusBadRequest)
		return
	}
	wire, err := w.resolving.noted(q).Pack()
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", message)
	_, _ = rw.Write(wire) // a server ignores that its client is gone
}
