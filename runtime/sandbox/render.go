package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"moonseal/runtime/problem"
)

// Render gives err as a person reads it: place, error, the line of the script,
// under it a caret where the column is known, and the hint.
//
//	dfw.lua:3:12: syntax error near "then"
//	    3 | if x = 1 then
//	      |      ^
//	hint: compare with ==
//
// An error without a place is one line.
func Render(err error) string {
	var e *problem.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	var b strings.Builder
	if p := e.Place; p != nil {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Error())
	if p := e.Place; p != nil && p.Source != "" {
		excerpt(&b, p)
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
}

// excerpt writes the part of a line around its column.
func excerpt(b *strings.Builder, p *problem.Place) {
	const most = 160
	source, column := p.Source, min(p.Column, len(p.Source)+1)
	if cut := column - most/2; len(source) > most && cut > 0 {
		source, column = strings.ToValidUTF8(source[cut:], ""), column-cut
	}
	if len(source) > most {
		source = strings.ToValidUTF8(source[:most], "")
	}
	fmt.Fprintf(b, "\n%5d | %s", p.Line, source)
	if column > 0 {
		// Tabs stay tabs, so that the caret stands under its column.
		pad := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, source[:min(column-1, len(source))])
		b.WriteString("\n      | " + pad + "^")
	}
}
