package suggest_test

import (
	"strings"
	"testing"

	"moonseal/runtime/suggest"
)

func TestClosest(t *testing.T) {
	keys := []string{"name", "schedule", "timeout", "window", "on", "stages", "alt_names", "key_type"}
	for _, c := range []struct{ got, want string }{
		{"nmae", "name"},
		{"shedule", "schedule"},
		{"scheduel", "schedule"},
		{"Timeout", "timeout"},
		{"alt-names", "alt_names"},
		{"altnames", "alt_names"},
		{"om", "on"},
		{"sched", "schedule"},
		{"names", "name"},
		{"alt", "alt_names"},
		{"k", ""},
		{"type", "key_type"},
		{"x", ""},
		{"zzzzzzz", ""},
		{"name", ""}, // it is there: nothing to suggest
		{"", ""},
		{strings.Repeat("name", 100), ""},
	} {
		if got := suggest.Closest(c.got, keys); got != c.want {
			t.Errorf("Closest(%q) = %q, want %q", c.got, got, c.want)
		}
	}
	if got := suggest.Closest("nane", []string{"nape", "name"}); got != "nape" {
		t.Errorf("of two equally near names the first wins, got %q", got)
	}
}

func TestPhrase(t *testing.T) {
	if got := suggest.Phrase("tiemout", []string{"timeout"}); got != `, did you mean "timeout"?` {
		t.Errorf("got %s", got)
	}
	if got := suggest.Phrase("zone", []string{"timeout"}); got != "" {
		t.Errorf("got %s", got)
	}
}
