package bind

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference returns module m's reference page in Markdown; level is the depth of
// its heading.
func (r *Registry) Reference(m *Module, level int) string {
	var b strings.Builder
	h := strings.Repeat("#", level)
	fmt.Fprintf(&b, "%s `%s`\n\n%s\n\n", h, m.Name, strings.TrimSpace(m.Doc))
	for _, f := range m.Functions {
		r.refFunc(&b, f, h+"#")
	}
	for _, t := range append(append([]*Type(nil), m.Types...), m.Plain...) {
		fmt.Fprintf(&b, "%s# `%s`\n\n%s\n\n", h, t.Name, strings.TrimSpace(t.Doc))
		r.refFields(&b, t.Go, "field")
		for _, f := range t.Methods {
			r.refFunc(&b, f, h+"##")
		}
	}
	return b.String()
}

func (r *Registry) refFunc(b *strings.Builder, f *Func, h string) {
	fmt.Fprintf(b, "%s `%s`\n\n%s\n\n", h, f.Signature(), strings.TrimSpace(f.Doc))
	r.refFields(b, f.Impl.Args, "argument")
	if ret, _ := r.typeName(f.Impl.Result); ret != "" && f.Returns != "" {
		fmt.Fprintf(b, "Returns `%s`: %s.\n\n", ret, strings.TrimSuffix(f.Returns, "."))
	}
	if f.Impl.Effect != nil {
		fmt.Fprintf(b, "%s\n\n", f.effectText())
	}
	fmt.Fprintf(b, "```lua\n%s\n```\n\n", strings.TrimSpace(f.Example))
}

// effectText says what the engine makes of f after a lost answer.
func (f *Func) effectText() string {
	parts := []string{"Changes the outside world."}
	e := f.Impl.Effect
	switch {
	case e.Probe != nil:
		parts = append(parts, "After a lost answer or a crash the outside world is asked whether it happened.")
	case e.Repeatable:
		parts = append(parts, "After a lost answer or a crash it is called again, which does no harm.")
	default:
		parts = append(parts, "After a lost answer or a crash the run parks.")
	}
	if e.WindowBound {
		parts = append(parts, "Only within the playbook's window.")
	}
	if e.Disruptive {
		parts = append(parts, "Takes the playbook's locks first.")
	}
	if e.Undo != nil {
		parts = append(parts, "Undone at the end of the run.")
	}
	return strings.Join(parts, " ")
}

func (r *Registry) refFields(b *strings.Builder, t reflect.Type, what string) {
	rows := r.rows(t, "")
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s | type | | |\n|---|---|---|---|\n%s\n", what, strings.Join(rows, ""))
}

func (r *Registry) rows(t reflect.Type, prefix string) []string {
	fields, _ := r.fields(t) // checked by NewRegistry
	var rows []string
	for _, f := range fields {
		need := "required"
		switch {
		case f.Default != "":
			need = "`" + f.Default + "`"
		case f.Optional:
			need = "optional"
		}
		name, _ := r.typeName(f.Type)
		if len(f.Enum) > 0 {
			name = strings.Join(f.Enum, ", ")
		}
		rows = append(rows, fmt.Sprintf("| `%s%s` | %s | %s | %s |\n", prefix, f.Name, name, need, strings.ReplaceAll(oneLine(f.Doc), "|", `\|`)))
		if r.options(f.Type) {
			rows = append(rows, r.rows(f.Type, f.Name+".")...)
		}
	}
	return rows
}
