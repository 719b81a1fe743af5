package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"moonseal/runtime/problem"
)

// printError says what happened, where in which script, and what to do:
//
//	moonseal: what happened
//	  dfw.lua:12: the line
//	hint: what to do
func (a *app) printError(err error) {
	e := problem.From(err)
	_, _ = fmt.Fprintf(a.stderr, "moonseal: %s\n", e)
	printPlace(a.stderr, e.Place)
	if e.Hint != "" {
		_, _ = fmt.Fprintf(a.stderr, "hint: %s\n", e.Hint)
	}
}

// printPlace shows a script's line, with a caret where the column is known.
func printPlace(w io.Writer, p *problem.Place) {
	if p == nil {
		return
	}
	if p.Line == 0 {
		_, _ = fmt.Fprintf(w, "  in %s\n", p.File)
		return
	}
	excerpt := p.Excerpt()
	if excerpt == "" {
		_, _ = fmt.Fprintf(w, "  %s:%d\n", p.File, p.Line)
		return
	}
	_, _ = fmt.Fprintf(w, "  %s:%d:\n  %s\n", p.File, p.Line, strings.ReplaceAll(excerpt, "\n", "\n  "))
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
