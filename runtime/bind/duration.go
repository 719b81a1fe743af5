package bind

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest duration that a script may name: 100 years.
const maxDuration = 100 * 365 * 24 * time.Hour

// ParseDuration reads a duration such as "30d", "1h30m", "1.5h" or "500ms".
// Units: ms, s, m (minutes), h, d (24 hours), w (7 days). It is never negative.
func ParseDuration(s string) (time.Duration, error) {
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

// seconds gives n seconds as a duration; got is how the script wrote it.
func seconds(n float64, got any) (time.Duration, error) {
	if math.IsNaN(n) || n < 0 || n > maxDuration.Seconds() {
		return 0, fmt.Errorf("%v is no duration: it wants 0 to 100 years", got)
	}
	return time.Duration(math.Round(n * float64(time.Second))), nil
}
