package bind

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Registry knows the modules, their types and functions. It is immutable once made.
type Registry struct {
	Modules []*Module

	byName map[string]*Type
	byGo   map[reflect.Type]*Type
	funcs  map[string]*Func
	known  sync.Map // reflect.Type -> its []field, once they were asked for
}

// NewRegistry checks the specs of modules: names are unique, everything has a
// doc, functions have an example, structs have tags.
func NewRegistry(modules ...*Module) (*Registry, error) {
	r := &Registry{Modules: modules, byName: map[string]*Type{}, byGo: map[reflect.Type]*Type{}, funcs: map[string]*Func{}}
	for _, m := range modules {
		if err := r.addTypes(m); err != nil {
			return nil, err
		}
	}
	for _, m := range modules {
		for _, f := range m.Functions {
			if err := r.add(m.Name+"."+f.Name, f); err != nil {
				return nil, err
			}
		}
		for _, t := range m.Types {
			for _, f := range t.Methods {
				if f.Impl.Recv != t.Go {
					return nil, fmt.Errorf("bind: %s:%s is bound to %v, not to %v", t.Name, f.Name, f.Impl.Recv, t.Go)
				}
				if err := r.add(t.Name+":"+f.Name, f); err != nil {
					return nil, err
				}
				if t.InTurn {
					f.turn = t.Name
				}
			}
		}
	}
	return r, r.checkTypes()
}

// addTypes adds the types of a module; several may have the same plain ones.
func (r *Registry) addTypes(m *Module) error {
	for _, t := range append(slices.Clone(m.Types), m.Plain...) {
		if old := r.byName[t.Name]; old != nil && old.Go == t.Go {
			continue
		}
		if r.byName[t.Name] != nil || r.byGo[t.Go] != nil {
			return fmt.Errorf("bind: type %s stands twice", t.Name)
		}
		if t.Doc == "" {
			return fmt.Errorf("bind: type %s has no doc", t.Name)
		}
		r.byName[t.Name], r.byGo[t.Go] = t, t
	}
	return nil
}

func (r *Registry) add(full string, f *Func) error {
	f.full = full
	if old := r.funcs[full]; old != nil && old != f {
		return fmt.Errorf("bind: function %s stands twice", full)
	}
	if f.Doc == "" || f.Example == "" {
		return fmt.Errorf("bind: function %s has no doc or no example", full)
	}
	params, err := r.fields(f.Impl.Args)
	if err != nil {
		return fmt.Errorf("bind: %s: %w", full, err)
	}
	for _, p := range params {
		if p.Doc == "" {
			return fmt.Errorf("bind: %s: parameter %s has no doc", full, p.Name)
		}
	}
	f.params = params
	r.funcs[full] = f
	return nil
}

func (r *Registry) checkTypes() error {
	for _, t := range r.byName {
		fields, err := r.fields(t.Go)
		if err != nil {
			return fmt.Errorf("bind: %s: %w", t.Name, err)
		}
		for _, f := range fields {
			if f.Doc == "" {
				return fmt.Errorf("bind: %s.%s has no doc", t.Name, f.Name)
			}
			for _, m := range t.Methods {
				if m.Name == f.Name {
					return fmt.Errorf("bind: %s.%s is a field and a method", t.Name, f.Name)
				}
			}
		}
	}
	return nil
}

// Func finds a function by its whole name, nil if there is none.
func (r *Registry) Func(full string) *Func { return r.funcs[full] }

// Module reports whether there is a module of this name.
func (r *Registry) Module(name string) bool {
	return slices.ContainsFunc(r.Modules, func(m *Module) bool { return m.Name == name })
}

// Result returns the name of the type of what a function returns, such as "cucm.Node"; ""
// if there is no such function.
func (r *Registry) Result(full string) string {
	f := r.funcs[full]
	if f == nil {
		return ""
	}
	name, err := r.typeName(f.Impl.Result)
	if err != nil {
		return ""
	}
	return name
}

// Changes reports whether a function changes the outside world.
func (r *Registry) Changes(full string) bool {
	f := r.funcs[full]
	return f != nil && f.Impl.Effect != nil
}

// ref returns a pointer to a handle's struct as a Ref, false when it is none.
func (r *Registry) ref(v reflect.Value) (*Ref, bool) {
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, false
	}
	t := r.byGo[v.Type().Elem()]
	if t == nil || t.Version == 0 {
		return nil, false
	}
	return &Ref{Type: t, Ptr: v.Interface()}, true
}

// handle rebuilds a handle from its journaled name@version and data.
func (r *Registry) handle(mark string, data *Object) (any, error) {
	name, version, _ := strings.Cut(mark, "@")
	n, err := strconv.Atoi(version)
	t := r.byName[name]
	if err != nil || t == nil || t.Version == 0 || data == nil {
		return nil, fmt.Errorf("unknown handle %q", mark)
	}
	if n > t.Version {
		return nil, fmt.Errorf("a %s of version %d, newer than this moonseal knows (%d)", name, n, t.Version)
	}
	if n < t.Version && t.Upgrade != nil {
		if err := t.Upgrade(n, data.Values); err != nil {
			return nil, fmt.Errorf("a %s of version %d: %w", name, n, err)
		}
	}
	ptr := reflect.New(t.Go)
	if err := r.toStruct(data, ptr.Elem(), name, true); err != nil {
		return nil, err
	}
	return &Ref{Type: t, Ptr: ptr.Interface()}, nil
}
