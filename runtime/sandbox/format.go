package sandbox

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// format is string.format, strict: each directive gets an argument of its kind,
// and %d a whole number.
func (s *State) format(L *lua.LState) int {
	layout := L.CheckString(1)
	var out strings.Builder
	arg := 1
	for layout != "" {
		i := strings.IndexByte(layout, '%')
		if i < 0 {
			out.WriteString(layout)
			break
		}
		out.WriteString(layout[:i])
		layout = layout[i+1:]
		if strings.HasPrefix(layout, "%") {
			out.WriteByte('%')
			layout = layout[1:]
			continue
		}
		spec := 0
		for spec < len(layout) && strings.IndexByte("-+ #0123456789.", layout[spec]) >= 0 {
			spec++
		}
		if spec == len(layout) {
			L.RaiseError("invalid format: ends inside a directive")
		}
		arg++
		if arg > L.GetTop() {
			L.ArgError(arg, "no value")
		}
		out.WriteString(s.directive(L, layout[:spec], layout[spec], arg))
		layout = layout[spec+1:]
		s.bound(L, out.Len())
	}
	s.bound(L, out.Len())
	L.Push(lua.LString(out.String()))
	return 1
}

// directive renders argument n by "%" + flags + verb.
func (s *State) directive(L *lua.LState, flags string, verb byte, n int) string {
	width, precision, dotted := strings.Cut(strings.TrimLeft(flags, "-+ #0"), ".")
	if len(width) > 2 || len(precision) > 2 || strings.Trim(width+precision, "0123456789") != "" {
		L.RaiseError("invalid format: width or precision of %q", "%"+flags+string(verb))
	}
	switch verb {
	case 'd', 'i':
		return fmt.Sprintf("%"+flags+"d", whole(L, n))
	case 'u':
		return fmt.Sprintf("%"+flags+"d", uint64(whole(L, n))) //nolint:gosec // as C does
	case 'o', 'x', 'X':
		value := uint64(whole(L, n)) //nolint:gosec // as C does
		if value == 0 {
			flags = strings.ReplaceAll(flags, "#", "") // C has no prefix for zero
		}
		return fmt.Sprintf("%"+flags+string(verb), value)
	case 'c':
		return string([]byte{byte(whole(L, n))}) //nolint:gosec // as C does
	case 'e', 'E', 'f', 'g', 'G':
		return float(flags, verb, float64(L.CheckNumber(n)))
	case 's':
		return text(flags, precision, dotted, L.ToStringMeta(L.Get(n)).String())
	case 'q':
		return quoted(L.CheckString(n))
	}
	L.RaiseError("invalid format: unknown directive %q", "%"+flags+string(verb))
	return ""
}

func whole(L *lua.LState, n int) int64 {
	f := float64(L.CheckNumber(n))
	if f != math.Trunc(f) || math.Abs(f) > 1<<63 {
		L.ArgError(n, "a whole number expected, got "+lua.LNumber(f).String())
	}
	return int64(f)
}

func float(flags string, verb byte, f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		name := strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+"))
		width, _, _ := strings.Cut(strings.ReplaceAll(flags, "0", ""), ".")
		return fmt.Sprintf("%"+width+"s", name)
	}
	if (verb == 'g' || verb == 'G') && !strings.Contains(flags, ".") {
		flags += ".6" // C's default; Go's is the shortest that reads back
	}
	return fmt.Sprintf("%"+flags+string(verb), f)
}

// text counts width and precision in bytes, as Lua does.
func text(flags, precision string, dotted bool, s string) string {
	if most, _ := strconv.Atoi(precision); dotted && most < len(s) {
		s = s[:most]
	}
	width, _, _ := strings.Cut(strings.TrimLeft(flags, "-+ #0"), ".")
	least, _ := strconv.Atoi(width)
	pad := strings.Repeat(" ", max(0, least-len(s)))
	if strings.Contains(flags, "-") {
		return s + pad
	}
	return pad + s
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", "\\\n", "\r", `\r`, "\x00", `\000`).Replace(s) + `"`
}
