package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// mask stands where a secret stood.
const mask = "[secret]"

// minKnown is the length in bytes below which a value is not masked: it would
// blank out ordinary words.
const minKnown = 4

var pemKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Redactor masks known values, in the forms in which they travel (as they are,
// URL-encoded, base64, in JSON, as HTTP Basic credentials), and private keys in PEM.
// It is safe for concurrent use. The zero value knows nothing.
type Redactor struct {
	mu    sync.RWMutex
	known []string
}

// Learn makes value known.
func (r *Redactor) Learn(value string) {
	if len(value) < minKnown {
		return
	}
	quoted, _ := json.Marshal(value) // a string can always be
	forms := []string{
		value, url.QueryEscape(value), url.PathEscape(value), base64.StdEncoding.EncodeToString([]byte(value)),
		base64.RawURLEncoding.EncodeToString([]byte(value)), strings.Trim(string(quoted), `"`),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range forms {
		if !slices.Contains(r.known, f) {
			r.known = append(r.known, f)
		}
	}
	// The longest first: one value may be a part of another.
	slices.SortFunc(r.known, func(a, b string) int { return len(b) - len(a) })
}

// LearnPair makes a user's name and password known as HTTP Basic sends them.
func (r *Redactor) LearnPair(user, password string) {
	r.Learn(password)
	r.Learn(base64.StdEncoding.EncodeToString([]byte(user + ":" + password)))
}

// Redact returns s without the known values and private keys.
func (r *Redactor) Redact(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.known {
		if strings.Contains(s, k) {
			s = strings.ReplaceAll(s, k, mask)
		}
	}
	if strings.Contains(s, "PRIVATE KEY") {
		s = pemKey.ReplaceAllString(s, mask)
	}
	return s
}

// Bytes is Redact over bytes, such as an encoded record.
func (r *Redactor) Bytes(b []byte) []byte {
	s := string(b)
	if out := r.Redact(s); out != s {
		return []byte(out)
	}
	return b
}

// Handler returns a slog handler that redacts messages and attributes before
// next sees them.
func (r *Redactor) Handler(next slog.Handler) slog.Handler { return &handler{r: r, next: next} }

type handler struct {
	r    *Redactor
	next slog.Handler
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, h.r.Redact(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, out)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = h.attr(a)
	}
	return &handler{r: h.r, next: h.next.WithAttrs(out)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{r: h.r, next: h.next.WithGroup(name)}
}

func (h *handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, h.r.Redact(v.String()))
	case slog.KindGroup:
		group := make([]any, 0, len(v.Group()))
		for _, g := range v.Group() {
			group = append(group, h.attr(g))
		}
		return slog.Group(a.Key, group...)
	case slog.KindAny:
		return slog.String(a.Key, h.r.Redact(v.String()))
	default:
		return a
	}
}
