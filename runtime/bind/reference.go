package bind

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Reference returns the reference of all modules in Markdown, each type once; level is the
// depth of the modules' headings. A type that several modules have stands at the end.
func (r *Registry) Reference(level int) string {
	var b strings.Builder
	h := strings.Repeat("#", level)
	modules := map[*Type]int{}
	for _, m := range r.Modules {
		for _, t := range m.all() {
			modules[r.byGo[t.Go]]++
		}
	}
	for _, m := range r.Modules {
		fmt.Fprintf(&b, "%s `%s`\n\n%s\n\n", h, m.Name, strings.TrimSpace(m.Doc))
		for _, f := range m.Functions {
			r.refFunc(&b, f, h+"#")
		}
		for _, t := range m.all() {
			if modules[r.byGo[t.Go]] == 1 {
				r.refType(&b, t, m.constructor(t), h+"#")
			}
		}
	}
	shared := slices.SortedFunc(maps.Keys(modules), func(a, b *Type) int { return strings.Compare(a.Name, b.Name) })
	shared = slices.DeleteFunc(shared, func(t *Type) bool { return modules[t] == 1 })
	if len(shared) > 0 {
		fmt.Fprintf(&b, "%s Types of several modules\n\n", h)
	}
	for _, t := range shared {
		r.refType(&b, t, nil, h+"#")
	}
	return b.String()
}

// all are the types of the module, handles first.
func (m *Module) all() []*Type { return slices.Concat(m.Types, m.Plain) }

// constructor is the function whose arguments are the fields of t; nil if there is none.
func (m *Module) constructor(t *Type) *Func {
	for _, f := range m.Functions {
		if f.Impl.Args == t.Go {
			return f
		}
	}
	return nil
}

// refType writes a type and its methods. The fields of one that constructor makes are its
// arguments, which have been written.
func (r *Registry) refType(b *strings.Builder, t *Type, constructor *Func, h string) {
	fmt.Fprintf(b, "%s `%s`\n\n%s\n\n", h, t.Name, strings.TrimSpace(t.Doc))
	if constructor != nil {
		fmt.Fprintf(b, "Its fields are the arguments of `%s`.\n\n", constructor.Full())
	} else {
		r.refFields(b, t.Go, "field")
	}
	for _, f := range t.Methods {
		r.refFunc(b, f, h+"#")
	}
}

func (r *Registry) refFunc(b *strings.Builder, f *Func, h string) {
	heading := f.Signature()
	if name, _, many := strings.Cut(heading, " { "); many && len(heading) > 100 { // the table below has them all
		heading = name + " { … }"
	}
	fmt.Fprintf(b, "%s `%s`\n\n%s\n\n", h, heading, strings.TrimSpace(f.Doc))
	r.refFields(b, f.Impl.Args, "argument")
	if ret, _ := r.typeName(f.Impl.Result); ret != "" && f.Returns != "" {
		fmt.Fprintf(b, "Returns `%s`: %s.\n\n", ret, strings.TrimSuffix(f.Returns, "."))
	}
	if f.Impl.Effect != nil {
		fmt.Fprintf(b, "%s\n\n", f.effectText())
	}
	fmt.Fprintf(b, "```lua\n%s\n```\n\n", strings.TrimSpace(f.Example))
}

// effectText describes what the engine does about f after a lost answer.
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
