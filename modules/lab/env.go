package lab

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

// variable is one line of lab.env. Names and values need no quoting in a shell.
type variable struct{ name, value string }

// newEnv makes the world's credentials: names are fixed, the rest is random.
func newEnv(o Options) []variable {
	eab := base64.RawURLEncoding
	if o.StandardEAB {
		eab = base64.StdEncoding
	}
	return []variable{
		{"CUCM_USERNAME", "administrator"},
		{"CUCM_PASSWORD", rand.Text()},
		{"CUCM_READER_USERNAME", "reader"}, // may read only (privilege 0)
		{"CUCM_READER_PASSWORD", rand.Text()},
		{"CF_API_TOKEN", text(40)},
		{"DO_API_TOKEN", text(64)},
		{"AWS_ACCESS_KEY_ID", "AKIA" + text(16)},
		{"AWS_SECRET_ACCESS_KEY", text(40)},
		{"TSIG_KEY", base64.StdEncoding.EncodeToString([]byte(text(32)))},
		{"EAB_HMAC", eab.EncodeToString([]byte("\xfb\xff" + text(30)))}, // its first bytes differ in the two alphabets
	}
}

// urlAlphabet returns a key in standard base64 as base64url without padding.
func urlAlphabet(key string) string {
	return strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(key)
}

// text returns n random characters (RFC 4648 base32), 5 bits in each.
func text(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}

// Env returns the value of a variable of lab.env; "" if there is none.
func (w *World) Env(name string) string {
	for _, v := range w.env {
		if v.name == name {
			return v.value
		}
	}
	return ""
}

// Environ returns lab.env as KEY=value, as os/exec takes it.
func (w *World) Environ() []string {
	out := make([]string, 0, len(w.env))
	for _, v := range w.env {
		out = append(out, v.name+"="+v.value)
	}
	return out
}
