// Package duration reads and writes time spans as scripts and the config write
// them: "30d", "1h30m", "1.5h" or "500ms". Units are ms, s, m (minutes), h, d
// (24 hours) and w (7 days). The package imports nothing of moonseal and does
// nothing at init: every run's process links it, and must start in milliseconds.
package duration

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// longest is the longest duration that a script may name: 100 years.
const longest = 100 * 365 * 24 * time.Hour

// Parse reads a duration. The result is never negative, and at most 100 years.
func Parse(s string) (time.Duration, error) {
	bad := fmt.Errorf(`%q is not a valid duration: expected a number and a unit, such as "90s", "10m", "1h30m" or "30d"%s`, s, meant(s))
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	rest, total := s, 0.0
	if rest == "" {
		return 0, bad
	}
	for rest != "" {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789."))]
		rest = rest[len(digits):]
		name := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))]
		rest = rest[len(name):]
		n, err := strconv.ParseFloat(digits, 64)
		unit, known := units[name]
		if err != nil || !known {
			return 0, bad
		}
		total += n * float64(unit)
	}
	return seconds(total/float64(time.Second), s)
}

// meant returns `, did you mean "30d"?` for a duration such as "30 days", or "".
func meant(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	word := strings.TrimLeft(s, "0123456789.")
	number := s[:len(s)-len(word)]
	word = strings.TrimSpace(word)
	if len(word) > 2 {
		word = strings.TrimSuffix(word, "s")
	}
	for _, unit := range []string{"week", "day", "hour", "minute", "second"} {
		if number != "" && word != "" && strings.HasPrefix(unit, word) {
			return fmt.Sprintf(", did you mean %q?", number+unit[:1])
		}
	}
	return ""
}

// Seconds returns a duration of n seconds, with the same limits as Parse.
func Seconds(n float64) (time.Duration, error) { return seconds(n, n) }

// seconds returns a duration of n seconds; got is how the user wrote it.
func seconds(n float64, got any) (time.Duration, error) {
	if math.IsNaN(n) || n < 0 || n > longest.Seconds() {
		return 0, fmt.Errorf("%v is not a valid duration: expected 0 to 100 years", got)
	}
	return time.Duration(math.Round(n * float64(time.Second))), nil
}

// Format writes a duration as scripts do: 10m, 1h30m, 7d. Parse reads back what
// is not negative and has no fractions of a millisecond.
func Format(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
