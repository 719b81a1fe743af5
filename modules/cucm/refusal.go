package cucm

import (
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// refusal returns the error of an answer with a status other than 200 and 201. The
// appliance's API answers JSON, but what is in front of it, or starts up behind it, may
// answer HTML or nothing.
func refusal(status int, header http.Header, body []byte, now time.Time) *problem.Error {
	answer := readError(body)
	p := problem.Status(status, header, answer.words, now)
	p.Tracking = answer.tracking
	p.Message += answer.form
	switch {
	case status == http.StatusUnauthorized:
		p.Message = "the appliance refused the user name or password" + answer.form
		p.Hint = "use the OS administrator (platform) account of this very node, not an AXL application user; it was tried once only, because appliances lock accounts"
	case status == http.StatusForbidden:
		p.Message = "the account may not do this" + answer.form
		p.Hint = "changing certificates needs privilege level 1; an account of level 0 only reads"
	case status == http.StatusNotFound && answer.form != "":
		p.Message = "the node has no such API" + answer.form
		p.Hint = "the REST API for certificates begins with release 14"
	case status >= 300 && status < 400:
		p.Message = "the node redirects" + answer.form
		p.Hint = "use the node's own host name and the port of its platform API"
	}
	for _, r := range rejections {
		if judged(status) && strings.Contains(strings.ToLower(answer.words), r.words) {
			p.Kind, p.Hint = r.kind, r.hint
			break
		}
	}
	return p
}

// judged reports whether an answer of this status judges the request. The words
// of others, such as a 503's page, mean something else.
func judged(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInternalServerError:
		return true
	}
	return false
}

// rejections are the appliance's known words, in lower case, with what they
// mean and what to do. The first that fits counts.
//
//nolint:gochecknoglobals // never changed
var rejections = []struct {
	words string
	kind  problem.Kind
	hint  string
}{
	{
		"ca certificate is not available in the trust-store", problem.Refused,
		"the root or an intermediate is missing in the node's trust store: upload it first, and let it replicate",
	},
	{
		".csr does not exist", problem.Mismatch,
		"no signing request is pending: an upload consumed it; generate a fresh CSR",
	},
	{
		"csr public key and certificate public key do not match", problem.Mismatch,
		"the certificate was issued for another signing request; generate a fresh CSR",
	},
	{
		"csr san and certificate san does not match", problem.Mismatch,
		"order the certificate for exactly the names in the signing request, no more and no fewer",
	},
	{
		"extended key usage", problem.Refused,
		"this release requires clientAuth, which public CAs no longer issue (Cisco field notice FN74345): update the appliance, or use a private CA",
	},
	{
		"clientauth", problem.Refused,
		"this release requires clientAuth, which public CAs no longer issue (Cisco field notice FN74345): update the appliance, or use a private CA",
	},
	{"wildcard", problem.Refused, "the appliance takes no wildcard certificate"},
	{"expired", problem.Refused, "check the certificate's dates, and the node's clock"},
	{".der could not be uploaded", problem.Refused, "see the node's certificate management log for the reason"},
	{"invalid json format", problem.Refused, "this release may expect other fields; look for an update of moonseal"},
}

// errorBody is what an error's body holds.
type errorBody struct {
	words    string // at most maxWords bytes of text
	tracking string
	form     string // " with an HTML page" and the like; "" for the documented JSON
}

// maxWords bounds what is quoted, in bytes.
const maxWords = 500

// readError reads {"key":400,"messages":["…"],"trackingId":"UC_…"}, or
// whatever else it gets.
func readError(body []byte) errorBody {
	text := strings.TrimSpace(strings.ToValidUTF8(string(body), "�"))
	var doc struct {
		Messages   json.RawMessage `json:"messages"`
		Message    json.RawMessage `json:"message"`
		Error      json.RawMessage `json:"error"`
		TrackingID json.RawMessage `json:"trackingId"`
	}
	switch {
	case text == "":
		return errorBody{form: " with an empty body"}
	case json.Unmarshal([]byte(text), &doc) == nil:
		s := errorBody{tracking: bound(words(doc.TrackingID), 100)}
		for _, raw := range []json.RawMessage{doc.Messages, doc.Message, doc.Error} {
			if s.words == "" {
				s.words = bound(words(raw), maxWords)
			}
		}
		if s.words == "" {
			s.words = bound(text, maxWords)
		}
		return s
	case strings.HasPrefix(text, "<"):
		return errorBody{words: bound(stripTags(text), maxWords), form: " with an HTML page"}
	default:
		return errorBody{words: bound(text, maxWords), form: " with a body that is not JSON"}
	}
}

// words returns the text of a JSON string, or of an array of strings.
func words(raw json.RawMessage) string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one
	}
	var many []json.RawMessage
	if json.Unmarshal(raw, &many) != nil {
		return ""
	}
	parts := make([]string, 0, len(many))
	for _, m := range many {
		if json.Unmarshal(m, &one) != nil {
			one = string(m)
		}
		parts = append(parts, one)
	}
	return strings.Join(parts, "; ")
}

var (
	hidden = regexp.MustCompile(`(?is)<(script|style)\b.*?(</(script|style)>|$)|<!--.*?(-->|$)`)
	tag    = regexp.MustCompile(`(?s)<[^>]*(>|$)`)
)

func stripTags(page string) string {
	page = hidden.ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(tag.ReplaceAllString(page, " "))), " ")
}

func bound(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
