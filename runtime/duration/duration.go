// Package duration reads and writes time spans as scripts and the config have
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
	bad := fmt.Errorf(`%q is no duration: it wants a number and a unit, such as "90s", "10m", "1h30m" or "30d"`, s)
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

// Seconds returns a duration of n seconds, with the same limits as Parse.
func Seconds(n float64) (time.Duration, error) { return seconds(n, n) }

// seconds returns a duration of n seconds; got is how the user wrote it.
func seconds(n float64, got any) (time.Duration, error) {
	if math.IsNaN(n) || n < 0 || n > longest.Seconds() {
		return 0, fmt.Errorf("%v is no duration: it wants 0 to 100 years", got)
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
