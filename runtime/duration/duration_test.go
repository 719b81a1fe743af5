package duration_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/duration"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "500ms": time.Second / 2, "2w": 336 * time.Hour, "0s": 0} {
		if got, err := duration.Parse(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "30", "d", "-1d", "1y", "1 d", "1d ", "101000d", "1..2h", "NaNs"} {
		if got, err := duration.Parse(s); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
}

func TestParseSuggests(t *testing.T) {
	for s, want := range map[string]string{
		"30 days": "30d", "10 minutes": "10m", "10min": "10m", "1.5 Hours": "1.5h", "2 W": "2w", "30 s": "30s",
		"10 ms": "", "days": "", "30": "", "1 fortnight": "", "1h 30m": "",
	} {
		_, err := duration.Parse(s)
		if err == nil || strings.Contains(err.Error(), "did you mean") != (want != "") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want a suggestion of %q", s, err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "500ms": time.Second / 2, "1.5s": 1500 * time.Millisecond, "90d": 90 * 24 * time.Hour, "25h": 25 * time.Hour,
		"10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "1m30s": 90 * time.Second,
	} {
		got := duration.Format(d)
		if got != want {
			t.Errorf("%v became %s, want %s", d, got, want)
		}
		if back, err := duration.Parse(got); back != d || err != nil {
			t.Errorf("%s was read back as %v, %v", got, back, err)
		}
	}
}
