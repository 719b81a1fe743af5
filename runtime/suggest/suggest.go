// Package suggest finds the name that a mistyped one may mean.
package suggest

import (
	"slices"
	"strings"
)

// longest bounds the names that are compared; the work grows with its square.
const longest = 64

// Closest returns the name among the given ones that is nearest to got, or "" when
// none is near. Near means at most one edit for each three letters (an insertion,
// a deletion, a substitution or a swap of neighbours), case and "-" against "_"
// not counted. Of equally near names the first wins. When none is near it is the only
// name that begins with got or has it as a whole word.
func Closest(got string, among []string) string {
	if got == "" || len(got) > longest {
		return ""
	}
	best, at := "", max(1, len(got)/3)+1
	for _, name := range among {
		if name == got || name == "" || len(name) > longest {
			continue
		}
		if d := distance(fold(got), fold(name)); d < at && d < max(len(got), len(name)) {
			best, at = name, d
		}
	}
	if best == "" {
		return containing(fold(got), among)
	}
	return best
}

// containing returns the only name that begins with got or has it as a whole word.
func containing(got string, among []string) string {
	if len(got) < 3 {
		return ""
	}
	only := ""
	for _, name := range among {
		folded := fold(name)
		if !strings.HasPrefix(folded, got) && !slices.Contains(strings.Split(folded, "_"), got) || folded == got {
			continue
		}
		if only != "" {
			return ""
		}
		only = name
	}
	return only
}

// Among returns Phrase's words or, when no name is near, "; it knows a, b".
func Among(got string, among []string) string {
	if p := Phrase(got, among); p != "" || len(among) == 0 {
		return p
	}
	return "; it knows " + strings.Join(among, ", ")
}

// Phrase returns `, did you mean "x"?` for the closest name, or "".
func Phrase(got string, among []string) string {
	if name := Closest(got, among); name != "" {
		return `, did you mean "` + name + `"?`
	}
	return ""
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// distance is the optimal string alignment distance between a and b, in bytes.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
