package problem

import (
	"strings"
	"testing"
)

func TestExcerpt(t *testing.T) {
	for _, c := range []struct {
		place Place
		want  string
	}{
		{Place{File: "a.lua", Line: 12, Column: 3, Source: "\tx = = 1"}, "  12 | \tx = = 1\n     | \t ^"},
		{Place{File: "a.lua", Line: 1, Source: "x()"}, "   1 | x()"},
		{Place{File: "a.lua", Line: 1, Column: 9, Source: "x("}, "   1 | x(\n     |   ^"}, // at its end
		{Place{File: "a.lua", Line: 1, Column: 2}, ""},
	} {
		if got := c.place.Excerpt(); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
	for _, column := range []int{0, 1, 5000, 10000} {
		long := Place{Line: 1, Column: column, Source: strings.Repeat("x", 10000)}
		if got := long.Excerpt(); len(got) > 500 || strings.HasSuffix(got, "^") != (column > 0) {
			t.Errorf("column %d of a long line is shown with %d bytes", column, len(got))
		}
	}
}
