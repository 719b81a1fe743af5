package bind

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"moonseal/runtime/secret"
)

// field is one tagged field of a struct that reaches Lua.
type field struct {
	Name, Doc string
	Optional  bool
	Default   string   // as text; "" is none
	Enum      []string // the strings that are allowed
	Type      reflect.Type
	index     []int
}

//nolint:gochecknoglobals // never changed
var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[secret.Handle]()
	verdictType  = reflect.TypeFor[Verdict]()
	anyType      = reflect.TypeFor[any]()
)

// fields lists t's tagged fields in their order.
func (r *Registry) fields(t reflect.Type) ([]field, error) {
	if t == nil {
		return nil, nil
	}
	if known, ok := r.known.Load(t); ok {
		return known.([]field), nil
	}
	out, err := r.readFields(t)
	if err == nil {
		r.known.Store(t, out)
	}
	return out, err
}

func (r *Registry) readFields(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%v is not a struct", t)
	}
	var out []field
	for _, sf := range reflect.VisibleFields(t) {
		tag, ok := sf.Tag.Lookup("lua")
		if !ok || sf.Name == "_" || !sf.IsExported() {
			continue
		}
		name, flags, _ := strings.Cut(tag, ",")
		f := field{
			Name: name, Doc: sf.Tag.Get("doc"), Optional: flags == "optional", Default: sf.Tag.Get("default"),
			Type: sf.Type, index: sf.Index,
		}
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.Enum = strings.Fields(enum)
		}
		if f.Default != "" && !f.Optional {
			return nil, fmt.Errorf("%v.%s has a default but is not optional", t, name)
		}
		if _, err := r.typeName(sf.Type); err != nil {
			return nil, fmt.Errorf("%v.%s: %w", t, name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// open reports whether struct t takes keys that it does not know.
func open(t reflect.Type) bool {
	for sf := range t.Fields() {
		if sf.Name == "_" && sf.Tag.Get("lua") == ",open" {
			return true
		}
	}
	return false
}

// typeName returns t as LuaLS writes it.
func (r *Registry) typeName(t reflect.Type) (string, error) {
	switch t {
	case nil:
		return "", nil
	case timeType:
		return "instant", nil
	case durationType:
		return "duration", nil
	case secretType:
		return "secret", nil
	case anyType:
		return "any", nil
	case verdictType:
		return "any, string?", nil
	}
	if known := r.byGo[t]; known != nil {
		return known.Name, nil
	}
	switch t.Kind() {
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "boolean", nil
	case reflect.Int, reflect.Int64:
		return "integer", nil
	case reflect.Float64:
		return "number", nil
	case reflect.Pointer:
		return r.typeName(t.Elem())
	case reflect.Slice:
		elem, err := r.typeName(t.Elem())
		return elem + "[]", err
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			elem, err := r.typeName(t.Elem())
			return "table<string, " + elem + ">", err
		}
	case reflect.Struct:
		if _, err := r.fields(t); err != nil {
			return "", err
		}
		return "table", nil
	}
	return "", fmt.Errorf("%v cannot reach Lua", t)
}
