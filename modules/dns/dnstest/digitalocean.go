package dnstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// digitalOcean imitates the API v2 of DigitalOcean, the part for domains and
// their records (docs.digitalocean.com/reference/api).
type digitalOcean struct{ world *World }

func newDigitalOcean(w *World) http.Handler {
	d := &digitalOcean{w}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/domains", d.listDomains)
	mux.HandleFunc("GET /v2/domains/{domain}", d.inDomain(d.showDomain))
	mux.HandleFunc("GET /v2/domains/{domain}/records", d.inDomain(d.listRecords))
	mux.HandleFunc("POST /v2/domains/{domain}/records", d.inDomain(d.createRecord))
	mux.HandleFunc("DELETE /v2/domains/{domain}/records/{id}", d.inDomain(d.deleteRecord))
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { doNotFound(rw) })
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Request-ID", fmt.Sprintf("lab-%d", w.opt.Clock.Now().UnixNano()))
		if r.Header.Get("Authorization") != "Bearer "+w.opt.Credentials.DigitalOceanToken {
			doFail(rw, http.StatusUnauthorized, "Unauthorized", "Unable to authenticate you")
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

type doRecord struct {
	ID       int     `json:"id"`
	Type     string  `json:"type"`
	Name     string  `json:"name"` // relative to the domain, @ for its apex
	Data     string  `json:"data"`
	Priority *int    `json:"priority"`
	Port     *int    `json:"port"`
	TTL      int     `json:"ttl"`
	Weight   *int    `json:"weight"`
	Flags    *int    `json:"flags"`
	Tag      *string `json:"tag"`
}

func doReply(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(body)
}

func doFail(rw http.ResponseWriter, status int, id, message string) {
	doReply(rw, status, map[string]string{"id": id, "message": message, "request_id": rw.Header().Get("X-Request-ID")})
}

func doNotFound(rw http.ResponseWriter) {
	doFail(rw, http.StatusNotFound, "not_found", "The resource you were accessing could not be found.")
}

func (d *digitalOcean) inDomain(do func(rw http.ResponseWriter, r *http.Request, domain string)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		domain := r.PathValue("domain") // never with a trailing dot
		if !slices.Contains(d.world.zones.apexes(), domain) {
			doNotFound(rw)
			return
		}
		do(rw, r, domain)
	}
}

func (d *digitalOcean) listDomains(rw http.ResponseWriter, _ *http.Request) {
	domains := []map[string]any{}
	for _, z := range d.world.zones.apexes() {
		domains = append(domains, map[string]any{"name": z, "ttl": 1800})
	}
	doReply(rw, http.StatusOK, map[string]any{"domains": domains, "links": map[string]any{}, "meta": map[string]int{"total": len(domains)}})
}

func (d *digitalOcean) showDomain(rw http.ResponseWriter, _ *http.Request, domain string) {
	doReply(rw, http.StatusOK, map[string]any{"domain": map[string]any{"name": domain, "ttl": 1800}})
}

func (d *digitalOcean) render(domain string, r Record) doRecord {
	name := strings.TrimSuffix(strings.TrimSuffix(r.Name, domain), ".")
	if name == "" {
		name = "@"
	}
	return doRecord{ID: r.ID, Type: r.Type, Name: name, Data: strings.TrimSuffix(r.Value, "."), TTL: int(r.TTL.Seconds())}
}

// listRecords filters by the whole name; the records that it shows have relative
// ones.
func (d *digitalOcean) listRecords(rw http.ResponseWriter, r *http.Request, domain string) {
	q := r.URL.Query()
	all := []doRecord{}
	for _, rec := range d.world.zones.list(func(rec Record) bool {
		return d.world.zones.zoneOf(rec.Name) == domain && cfMatches(q.Get("type"), rec.Type) && cfMatches(q.Get("name"), rec.Name)
	}) {
		all = append(all, d.render(domain, rec))
	}
	page, size := max(1, atoi(q.Get("page"), 1)), min(max(1, atoi(q.Get("per_page"), 20)), 200)
	from := min((page-1)*size, len(all))
	last := max(1, (len(all)+size-1)/size)
	pages := map[string]string{}
	link := func(n int) string {
		q.Set("page", strconv.Itoa(n))
		return "https://" + DigitalOceanHost + r.URL.Path + "?" + q.Encode()
	}
	if page > 1 {
		pages["first"], pages["prev"] = link(1), link(page-1)
	}
	if page < last {
		pages["next"], pages["last"] = link(page+1), link(last)
	}
	links := map[string]any{}
	if len(pages) > 0 {
		links["pages"] = pages
	}
	doReply(rw, http.StatusOK, map[string]any{"domain_records": all[from:min(from+size, len(all))], "links": links, "meta": map[string]int{"total": len(all)}})
}

func (d *digitalOcean) createRecord(rw http.ResponseWriter, r *http.Request, domain string) {
	var in doRecord
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		doFail(rw, http.StatusBadRequest, "bad_request", "invalid JSON in request body")
		return
	}
	if in.TTL == 0 {
		in.TTL = 1800
	}
	wrong := ""
	switch {
	case !slices.Contains([]string{"A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT"}, in.Type):
		wrong = "Type is not a valid record type."
	case in.Name == "":
		wrong = "Name can't be blank."
	case in.Data == "":
		wrong = "Data can't be blank."
	case in.TTL < 30:
		wrong = "Ttl must be greater than or equal to 30."
	case in.Type == "CNAME" && !strings.HasSuffix(in.Data, ".") && in.Data != "@":
		wrong = "Data needs to end with a dot (.)"
	}
	if wrong != "" {
		doFail(rw, http.StatusUnprocessableEntity, "unprocessable_entity", wrong)
		return
	}
	name := in.Name + "." + domain
	if in.Name == "@" {
		name = domain
	}
	added, err := d.world.zones.add(Record{Name: name, Type: in.Type, Value: in.Data, TTL: time.Duration(in.TTL) * time.Second})
	switch {
	case errors.Is(err, errConflict):
		doFail(rw, http.StatusUnprocessableEntity, "unprocessable_entity", "CNAME records cannot share a name with other records")
	case err != nil:
		doFail(rw, http.StatusUnprocessableEntity, "unprocessable_entity", err.Error())
	default:
		doReply(rw, http.StatusCreated, map[string]any{"domain_record": d.render(domain, added)})
	}
}

func (d *digitalOcean) deleteRecord(rw http.ResponseWriter, r *http.Request, domain string) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || d.world.zones.remove(func(rec Record) bool { return rec.ID == id && d.world.zones.zoneOf(rec.Name) == domain }) == 0 {
		doNotFound(rw)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}
