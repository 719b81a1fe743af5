package cucm

import (
	"bytes"
	"encoding/json"
	"strings"

	"moonseal/runtime/problem"
)

// What a PEM text holds.
const (
	certificates = "CERTIFICATE-----"
	requests     = "CERTIFICATE REQUEST-----" // also "NEW CERTIFICATE REQUEST"
)

// pemTexts returns the PEM texts of one type in an answer, in its order. Releases
// differ in how they wrap them: in an object, an array, an object with an
// array, or not at all. What names another service is left out.
func pemTexts(body []byte, what, service string) ([]string, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, nil
	}
	if bytes.HasPrefix(body, []byte("-----BEGIN ")) {
		return collect(string(body), what, service, nil), nil
	}
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, notJSON(body)
	}
	return collect(doc, what, service, nil), nil
}

// collect walks a decoded JSON value; an object's fields in alphabetical order,
// which puts "certificate" before "chain".
func collect(v any, what, service string, out []string) []string {
	switch v := v.(type) {
	case string:
		if begin := strings.Index(v, "-----BEGIN "); begin >= 0 && isType(v[begin:], what) {
			out = append(out, v)
		}
	case []any:
		for _, e := range v {
			out = collect(e, what, service, out)
		}
	case map[string]any:
		if name, ok := v["service"].(string); ok && name != service {
			return out
		}
		for _, key := range sortedKeys(v) {
			out = collect(v[key], what, service, out)
		}
	}
	return out
}

// isType reports whether the first block of a PEM text has the type. A request is not a
// certificate, though its type ends in the same words.
func isType(text, what string) bool {
	line, _, _ := strings.Cut(strings.TrimPrefix(text, "-----BEGIN "), "\n")
	line = strings.TrimSpace(line)
	return line == what || line == "NEW "+what
}

// notJSON is the error of an answer of 200 that is something else: a node that starts up,
// or another host.
func notJSON(body []byte) error {
	s := readError(body)
	form := s.form
	if form == "" {
		form = " with JSON of another shape"
	}
	return &problem.Error{
		Kind: problem.Unavailable, Message: "answered 200" + form + " where the API's JSON belongs", Server: s.words, Work: problem.Unknown,
		Hint: "is it a node of release 14 or later, and has it started up?",
	}
}
