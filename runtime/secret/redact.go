package secret

import (
	"context"
	"encoding/base64"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"

	"moonseal/runtime/problem"
)

// mask replaces a secret.
const mask = "[secret]"

// minKnown is the length in bytes below which a value is not masked: it would
// blank out ordinary words.
const minKnown = 4

var pemKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Redactor masks known values in the forms in which they travel and come back: as they
// are, reversed, in hex, in base64 with any text before and after them, percent-encoded,
// escaped in JSON, HTML or Lua; and private keys in PEM. It is safe for concurrent use.
// The zero value knows none.
type Redactor struct {
	mu      sync.RWMutex
	values  []string          // as they are
	plain   []string          // what is left of them when what looks like escapes is undone, the longest first
	exact   *strings.Replacer // all forms that have one spelling; nil until there is one
	forms   []string          // of exact, the longest first
	encoded []string          // parts of base64 texts, whatever surrounds the value
}

// Learn makes value known.
func (r *Redactor) Learn(value string) {
	for _, v := range []string{value, strings.TrimSpace(value)} { // files end in newlines, which are not sent
		if len(v) >= minKnown {
			r.learn(v, formsOf)
		}
	}
}

// LearnPair makes a user's name and password known as HTTP Basic sends them.
func (r *Redactor) LearnPair(user, password string) {
	r.Learn(password)
	pair := []byte(user + ":" + password)
	for _, form := range []string{base64.StdEncoding.EncodeToString(pair), base64.URLEncoding.EncodeToString(pair)} {
		if len(password) >= minKnown {
			r.learn(form, func(form string) []string { return []string{form, reversed(form)} })
		}
	}
}

func (r *Redactor) learn(value string, forms func(string) []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.values, value) {
		return // it is learned each time that it is looked up
	}
	r.values = append(r.values, value)
	r.plain = longestFirst(append(r.plain, plainForms(value)...))
	r.forms = longestFirst(append(r.forms, forms(value)...))
	pairs := make([]string, 0, 2*len(r.forms))
	for _, form := range r.forms {
		pairs = append(pairs, form, mask)
	}
	r.exact = strings.NewReplacer(pairs...)
	r.encoded = longestFirst(append(r.encoded, base64Of(value)...))
}

// Redact returns s without the known values and private keys.
func (r *Redactor) Redact(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.exact != nil {
		s = r.exact.Replace(s)
	}
	for _, core := range r.encoded {
		s = maskRuns(s, core)
	}
	s = maskEscaped(s, r.plain)
	if strings.Contains(s, "PRIVATE KEY") {
		s = pemKey.ReplaceAllString(s, mask)
	}
	return s
}

// Problem returns a copy of e without the known values in any of its texts.
func (r *Redactor) Problem(e *problem.Error) *problem.Error {
	out := *e
	for _, text := range []*string{&out.Target, &out.Message, &out.Server, &out.Tracking, &out.Hint} {
		*text = r.Redact(*text)
	}
	return &out
}

// Bytes is Redact over bytes, such as an encoded record.
func (r *Redactor) Bytes(b []byte) []byte {
	s := string(b)
	if out := r.Redact(s); out != s {
		return []byte(out)
	}
	return b
}

// Handler returns a slog handler that redacts messages and attributes before next gets
// them.
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
