package problem

import (
	"fmt"
	"strings"
)

// Place is a position in a script.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column,omitempty"` // 1-based; known for syntax errors and for keys of tables
	Source string `json:"source,omitempty"` // the line's text
}

// Excerpt returns the line with its number, and under it a caret if the column is known;
// of a long line the part around it. It is "" if the text is not known.
//
//	3 | if x = 1 then
//	  |      ^
func (p *Place) Excerpt() string {
	if p.Source == "" {
		return ""
	}
	const most = 160
	source, column := p.Source, min(p.Column, len(p.Source)+1)
	if cut := column - most/2; len(source) > most && cut > 0 {
		source, column = strings.ToValidUTF8(source[cut:], ""), column-cut
	}
	if len(source) > most {
		source = strings.ToValidUTF8(source[:most], "")
	}
	out := fmt.Sprintf("%4d | %s", p.Line, source)
	if column < 1 {
		return out
	}
	// Tabs stay tabs, so that the caret is under its column.
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, source[:min(column-1, len(source))])
	return out + "\n     | " + pad + "^"
}
