package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// printError says what happened, where in which script, and what to do:
//
//	moonseal: what happened
//	  dfw.lua:12: the line
//	hint: what to do
func (a *app) printError(err error) {
	e := problem.From(err)
	_, _ = plain.Fprintf(a.stderr, "moonseal: %s\n", e)
	printPlace(a.stderr, e.Place)
	if e.Hint != "" {
		_, _ = plain.Fprintf(a.stderr, "hint: %s\n", e.Hint)
	}
}

// printPlace shows a script's line, with a caret where the column is known.
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

// writeJSON writes to what is below the writer that escapes: JSON does so by itself.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(plain.Raw(w))
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
