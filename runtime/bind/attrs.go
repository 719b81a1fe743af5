package bind

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"moonseal/runtime/secret"
)

// Attrs returns a script's fields as attributes for a log line, by name. Tables
// are written flat, secrets and handles by their names.
func Attrs(fields map[string]any) []slog.Attr {
	var out []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		switch v := fields[k].(type) {
		case string:
			out = append(out, slog.String(k, v))
		case bool:
			out = append(out, slog.Bool(k, v))
		case float64:
			out = append(out, slog.Float64(k, v))
		default:
			out = append(out, slog.String(k, text(v)))
		}
	}
	return out
}

func text(v any) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return "nil"
	case secret.Handle:
		return v.String()
	case *Object:
		for _, k := range v.Keys {
			parts = append(parts, k+"="+text(v.Values[k]))
		}
		return "{" + strings.Join(parts, " ") + "}"
	case []any:
		for _, e := range v {
			parts = append(parts, text(e))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case fmt.Stringer:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}
