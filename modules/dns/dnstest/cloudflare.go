package dnstest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cloudflare imitates the API v4 of Cloudflare, the part for zones and DNS
// records (developers.cloudflare.com/api/resources/dns).
type cloudflare struct{ world *World }

func newCloudflare(w *World) http.Handler {
	c := &cloudflare{w}
	mux := http.NewServeMux()
	const records = "/client/v4/zones/{zone}/dns_records"
	mux.HandleFunc("GET /client/v4/zones", c.listZones)
	mux.HandleFunc("GET "+records, c.inZone(c.listRecords))
	mux.HandleFunc("POST "+records, c.inZone(c.createRecord))
	mux.HandleFunc("DELETE "+records+"/{record}", c.inZone(c.deleteRecord))
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		cfFail(rw, http.StatusBadRequest, cfError{Code: 7000, Message: "No route for that URI"})
	})
	return c.authenticated(mux)
}

type cfError struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Chain   []cfError `json:"error_chain,omitempty"`
}

type cfInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

type cfAnswer struct {
	Result   any       `json:"result"`
	Success  bool      `json:"success"`
	Errors   []cfError `json:"errors"`
	Messages []string  `json:"messages"`
	Info     *cfInfo   `json:"result_info,omitempty"`
}

type cfRecord struct {
	ID         string    `json:"id"`
	ZoneID     string    `json:"zone_id"`
	ZoneName   string    `json:"zone_name"`
	Name       string    `json:"name"`
	Type       string    `json:"type"`
	Content    string    `json:"content"`
	Proxiable  bool      `json:"proxiable"`
	Proxied    bool      `json:"proxied"`
	TTL        int       `json:"ttl"`
	CreatedOn  time.Time `json:"created_on"`
	ModifiedOn time.Time `json:"modified_on"`
}

func cfReply(rw http.ResponseWriter, status int, a cfAnswer) {
	if a.Errors == nil {
		a.Errors = []cfError{}
	}
	a.Messages = []string{}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(a)
}

func cfFail(rw http.ResponseWriter, status int, errs ...cfError) {
	cfReply(rw, status, cfAnswer{Errors: errs})
}

var cfToken = regexp.MustCompile(`^Bearer [A-Za-z0-9_-]{40}$`)

func (c *cloudflare) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch auth := r.Header.Get("Authorization"); {
		case auth == "":
			cfFail(rw, http.StatusBadRequest, cfError{Code: 9106, Message: "Missing X-Auth-Key, X-Auth-Email or Authorization headers"})
		case auth == "Bearer "+c.world.opt.Credentials.CloudflareToken:
			next.ServeHTTP(rw, r)
		case !cfToken.MatchString(auth):
			cfFail(rw, http.StatusBadRequest, cfError{
				Code: 6003, Message: "Invalid request headers",
				Chain: []cfError{{Code: 6111, Message: "Invalid format for Authorization header"}},
			})
		default:
			cfFail(rw, http.StatusForbidden, cfError{Code: 9109, Message: "Invalid access token"})
		}
	})
}

// CloudflareZoneID returns the id of a zone at the world's Cloudflare.
func CloudflareZoneID(zone string) string { return cfZoneID(zone) }

func cfZoneID(zone string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(zone)))[:32] }
func cfRecordID(n int) string     { return fmt.Sprintf("%032x", n) }

// cfUnquote reads a TXT record's content, which may come without quotes.
func cfUnquote(content string) string {
	if parts, err := quotedStrings(content); err == nil {
		return strings.Join(parts, "")
	}
	return content
}

// listZones is an empty success for a zone that the token does not see.
func (c *cloudflare) listZones(rw http.ResponseWriter, r *http.Request) {
	found := []map[string]any{}
	for _, z := range c.world.zones.apexes() {
		if name := r.URL.Query().Get("name"); name == "" || cleanName(name) == z {
			found = append(found, map[string]any{
				"id": cfZoneID(z), "name": z, "status": "active", "paused": false, "type": "full",
				"name_servers": []string{strings.TrimSuffix(serverName(0, z), ".")}, "permissions": []string{"#dns_records:edit", "#zone:read"},
			})
		}
	}
	cfReply(rw, http.StatusOK, cfAnswer{Success: true, Result: found, Info: &cfInfo{Page: 1, PerPage: 20, Count: len(found), TotalCount: len(found), TotalPages: 1}})
}

func (c *cloudflare) inZone(do func(rw http.ResponseWriter, r *http.Request, zone string)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		id := r.PathValue("zone")
		for _, z := range c.world.zones.apexes() {
			if cfZoneID(z) == id {
				do(rw, r, z)
				return
			}
		}
		cfFail(rw, http.StatusNotFound, cfError{Code: 7003, Message: "Could not route to " + strings.TrimPrefix(r.URL.Path, "/client/v4") +
			", perhaps your object identifier is invalid?"}, cfError{Code: 7000, Message: "No route for that URI"})
	}
}

func (c *cloudflare) render(zone string, r Record) cfRecord {
	content := r.Value
	if r.Type == "TXT" {
		content = quoteText(r.Value)
	}
	return cfRecord{
		ID: cfRecordID(r.ID), ZoneID: cfZoneID(zone), ZoneName: zone, Name: r.Name, Type: r.Type,
		Content: strings.TrimSuffix(content, "."), TTL: int(r.TTL.Seconds()), CreatedOn: c.world.opt.Clock.Now(), ModifiedOn: c.world.opt.Clock.Now(),
	}
}

func (c *cloudflare) listRecords(rw http.ResponseWriter, r *http.Request, zone string) {
	q := r.URL.Query()
	all := []cfRecord{}
	for _, rec := range c.world.zones.list(func(r Record) bool { return c.world.zones.zoneOf(r.Name) == zone }) {
		shown := c.render(zone, rec)
		if cfMatches(q.Get("type"), rec.Type) && cfMatches(cleanName(q.Get("name")), rec.Name) && cfMatches(q.Get("content.exact"), shown.Content) &&
			strings.Contains(strings.ToLower(shown.Content), strings.ToLower(q.Get("content.contains"))) {
			all = append(all, shown)
		}
	}
	page, size := max(1, atoi(q.Get("page"), 1)), min(max(5, atoi(q.Get("per_page"), 100)), 5000)
	info := &cfInfo{Page: page, PerPage: size, TotalCount: len(all), TotalPages: (len(all) + size - 1) / size}
	from := min((page-1)*size, len(all))
	shown := all[from:min(from+size, len(all))]
	info.Count = len(shown)
	cfReply(rw, http.StatusOK, cfAnswer{Success: true, Result: shown, Info: info})
}

func cfMatches(want, have string) bool { return want == "" || strings.EqualFold(want, have) }

func atoi(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return otherwise
}

func (c *cloudflare) createRecord(rw http.ResponseWriter, r *http.Request, zone string) {
	var in struct {
		Type, Name, Content string
		TTL                 *int
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		cfFail(rw, http.StatusBadRequest, cfError{Code: 9207, Message: "Request body is invalid."})
		return
	}
	rec, problem := cfCheck(zone, in.Type, in.Name, in.Content, in.TTL)
	if problem.Code != 0 {
		cfFail(rw, http.StatusBadRequest, problem)
		return
	}
	if len(c.world.zones.list(func(o Record) bool { return o.Name == rec.Name && o.Type == rec.Type && o.Value == rec.Value })) > 0 {
		cfFail(rw, http.StatusBadRequest, cfError{Code: 81058, Message: "An identical record already exists."})
		return
	}
	added, err := c.world.zones.add(rec)
	switch {
	case errors.Is(err, errConflict):
		cfFail(rw, http.StatusBadRequest, cfError{Code: 81054, Message: "A CNAME record with that host already exists"})
	case err != nil:
		cfFail(rw, http.StatusBadRequest, cfInvalid(9999, err.Error()))
	default:
		cfReply(rw, http.StatusOK, cfAnswer{Success: true, Result: c.render(zone, added)})
	}
}

func cfInvalid(code int, message string) cfError {
	return cfError{Code: 1004, Message: "DNS Validation Error", Chain: []cfError{{Code: code, Message: message}}}
}

// cfCheck completes a name that is relative to the zone, as Cloudflare does.
func cfCheck(zone, typ, name, content string, ttl *int) (Record, cfError) {
	rec := Record{Type: typ, Name: cleanName(name), Value: content, TTL: 300 * time.Second}
	if rec.Name == "@" || rec.Name == "" {
		rec.Name = zone
	} else if rec.Name != zone && !strings.HasSuffix(rec.Name, "."+zone) {
		rec.Name += "." + zone
	}
	if ttl != nil && *ttl != 1 {
		if *ttl < 60 || *ttl > 86400 {
			return rec, cfError{Code: 9021, Message: "Invalid TTL. Must be between 60 and 86,400 seconds, or 1 for Automatic."}
		}
		rec.TTL = time.Duration(*ttl) * time.Second
	}
	switch addr, err := netip.ParseAddr(content); {
	case !slices.Contains([]string{"A", "AAAA", "CNAME", "TXT", "CAA", "MX", "NS"}, typ):
		return rec, cfInvalid(9000, "DNS record type "+strconv.Quote(typ)+" is invalid.")
	case content == "":
		return rec, cfInvalid(9005, "DNS record content is required.")
	case typ == "A" && (err != nil || !addr.Is4()):
		return rec, cfInvalid(9005, "Content for A record must be a valid IPv4 address.")
	case typ == "AAAA" && (err != nil || !addr.Is6()):
		return rec, cfInvalid(9006, "Content for AAAA record must be a valid IPv6 address.")
	case typ == "TXT":
		rec.Value = cfUnquote(content)
	case typ == "CNAME":
		rec.Value = strings.TrimSuffix(content, ".") + "."
	}
	return rec, cfError{}
}

func (c *cloudflare) deleteRecord(rw http.ResponseWriter, r *http.Request, zone string) {
	id := r.PathValue("record")
	n := c.world.zones.remove(func(rec Record) bool { return cfRecordID(rec.ID) == id && c.world.zones.zoneOf(rec.Name) == zone })
	if n == 0 {
		cfFail(rw, http.StatusNotFound, cfError{Code: 81044, Message: "Record does not exist."})
		return
	}
	cfReply(rw, http.StatusOK, cfAnswer{Success: true, Result: map[string]string{"id": id}})
}
