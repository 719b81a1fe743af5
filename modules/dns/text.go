package dns

import (
	"errors"
	"strconv"
	"strings"
)

// unescape turns \X and \NNN (three digits of base, 8 or 10) into bytes: zone
// files and the DNS library write decimals, Route 53 octals.
func unescape(s string, base int) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], base, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

// joinQuoted returns the text of one or more strings in quotes, such as "a" "b".
func joinQuoted(value string, base int) (string, error) {
	var b strings.Builder
	rest := strings.TrimSpace(value)
	if rest == "" {
		return "", errors.New("no text")
	}
	for rest != "" {
		if rest[0] != '"' {
			return "", errors.New("text without quotes")
		}
		end := 1
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(rest) {
			return "", errors.New("text without its closing quote")
		}
		b.WriteString(unescape(rest[1:end], base))
		rest = strings.TrimSpace(rest[end+1:])
	}
	return b.String(), nil
}
