package cli

import (
	"fmt"
	"io"
	"strings"

	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// printError prints what happened, the script's line, and what to do:
//
//	moonseal: what happened
//	  dfw.lua:12: the line
//	hint: what to do
func printError(w io.Writer, err error) {
	e := problem.From(err)
	_, _ = plain.Fprintf(w, "moonseal: %s\n", e)
	printPlace(w, e.Place)
	if e.Hint != "" {
		_, _ = plain.Fprintf(w, "hint: %s\n", e.Hint)
	}
}

// printPlace shows a script's line, with a caret if the column is known.
func printPlace(w io.Writer, p *problem.Place) {
	if p == nil {
		return
	}
	if p.Line == 0 {
		_, _ = plain.Fprintf(w, "  in %s\n", p.File)
		return
	}
	excerpt := p.Excerpt()
	if excerpt == "" {
		_, _ = plain.Fprintf(w, "  %s:%d\n", p.File, p.Line)
		return
	}
	_, _ = plain.Fprintf(w, "  %s:%d:\n", p.File, p.Line)
	for line := range strings.Lines(excerpt) { // the script's, and the caret's
		_, _ = fmt.Fprintf(w, "  %s\n", plain.Text(strings.TrimSuffix(line, "\n")))
	}
}
