package bind

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"moonseal/runtime/problem"
)

// Arguments checks what a script passed to f and returns a pointer to the argument
// struct.
func (r *Registry) Arguments(f *Func, given []any) (any, error) {
	usage := f.misuse
	args := reflect.New(f.Impl.Args)
	if f.Table {
		if len(given) != 1 {
			return nil, usage(fmt.Errorf("expects one table, got %d arguments", len(given)))
		}
		o, ok := asObject(given[0])
		if !ok {
			return nil, usage(fmt.Errorf("expects one table, got %s", describe(given[0])))
		}
		if err := r.toStruct(o, args.Elem(), "", false); err != nil {
			return nil, usage(err)
		}
		return args.Interface(), nil
	}
	if len(given) > len(f.params) {
		return nil, usage(fmt.Errorf("expects at most %d arguments, got %d", len(f.params), len(given)))
	}
	for i, p := range f.params {
		var got any
		if i < len(given) {
			got = given[i]
		}
		if err := r.fillField(p, got, args.Elem(), p.Name, false); err != nil {
			return nil, usage(err)
		}
		if got == nil && p.Type.Kind() == reflect.Struct && r.byGo[p.Type] == nil && p.Type != timeType && p.Type != secretType {
			// Options left out have their defaults all the same.
			if err := r.toStruct(NewObject(), args.Elem().FieldByIndex(p.index), p.Name, false); err != nil {
				return nil, usage(err)
			}
		}
	}
	return args.Interface(), nil
}

// misuse returns err as f's own, with how f is called as its hint if it has none.
func (f *Func) misuse(err error) error {
	e := *problem.From(err)
	if e.Kind == problem.Internal && e.Key == "" {
		e = problem.Error{Kind: problem.Usage, Message: err.Error()}
	}
	e.Call = f.full
	if e.Hint == "" {
		e.Hint = "it is called as " + f.usage()
	}
	return &e
}

// usage is Signature, without the keys that may be left out of a long table.
func (f *Func) usage() string {
	const most = 5
	if !f.Table || len(f.params) <= most {
		return f.Signature()
	}
	short := *f
	short.params = slices.DeleteFunc(slices.Clone(f.params), func(p field) bool { return p.Optional })
	if len(short.params) == 0 {
		short.params = f.params[:most]
	}
	return strings.Replace(short.Signature(), " }", ", … }", 1)
}

// Signature is how f is called, such as node:upload(service, certificate, [options]).
func (f *Func) Signature() string {
	name := f.full
	if owner, method, ok := strings.Cut(f.full, ":"); ok {
		name = strings.ToLower(owner[strings.LastIndex(owner, ".")+1:]) + ":" + method
	}
	var parts []string
	for _, p := range f.params {
		part := p.Name
		if f.Table {
			part += " = …"
		}
		if p.Optional {
			part = "[" + part + "]"
		}
		parts = append(parts, part)
	}
	if f.Table {
		return name + " { " + strings.Join(parts, ", ") + " }"
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}

// EncodeCall returns receiver and arguments as JSON for the journal; recv may be nil.
func (r *Registry) EncodeCall(inv *Invocation) (json.RawMessage, error) {
	o := NewObject()
	if inv.Recv != nil {
		ref, ok := r.ref(reflect.ValueOf(inv.Recv))
		if !ok {
			return nil, fmt.Errorf("%s: the receiver is not a handle", inv.Func.full)
		}
		o.Set("recv", ref)
	}
	args, err := r.fromGo(inv.Args, "arguments")
	if err != nil {
		return nil, err
	}
	o.Set("args", args)
	return r.Encode(o)
}

// DecodeCall reads what EncodeCall wrote.
func (r *Registry) DecodeCall(full string, raw json.RawMessage) (*Invocation, error) {
	f := r.funcs[full]
	if f == nil {
		return nil, fmt.Errorf("this moonseal has no function %s", full)
	}
	v, err := r.Decode(raw)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("%s: the journaled call is not an object", full)
	}
	inv := &Invocation{Func: f}
	if ref, ok := o.Values["recv"].(*Ref); ok {
		inv.Recv = ref.Ptr
	}
	if inv.Recv == nil && f.Impl.Recv != nil {
		return nil, fmt.Errorf("%s: journaled call names no %s", full, f.Impl.Recv)
	}
	args := reflect.New(f.Impl.Args)
	data, _ := asObject(o.Values["args"])
	if data == nil {
		data = NewObject()
	}
	if err := r.toStruct(data, args.Elem(), full, true); err != nil {
		return nil, err
	}
	inv.Args = args.Interface()
	return inv, nil
}

// EncodeResult returns f's result as JSON; a [Verdict] as its value.
func (r *Registry) EncodeResult(result any) (json.RawMessage, error) {
	plain, err := r.ToPlain(result)
	if err != nil {
		return nil, err
	}
	return r.Encode(plain)
}

// DecodeResult reads an encoded result of f back as a Go value of f's result
// type, for its Undo.
func (r *Registry) DecodeResult(f *Func, raw json.RawMessage) (any, error) {
	plain, err := r.Decode(raw)
	if err != nil || plain == nil || f.Impl.Result == nil {
		return nil, err
	}
	dst := reflect.New(f.Impl.Result).Elem()
	if err := r.toGo(plain, dst, f.full+" result", true); err != nil {
		return nil, err
	}
	return dst.Interface(), nil
}

// Repeatable reports whether the function changes something and may be called twice.
func (r *Registry) Repeatable(full string) bool {
	f := r.funcs[full]
	return f != nil && f.Impl.Effect != nil && f.Impl.Effect.Repeatable
}

// GivenResult reads a result of the function that was written by hand as JSON, strictly, and
// returns it as the journal has it. A handle may be written as a table of its fields.
func (r *Registry) GivenResult(full string, given json.RawMessage) (json.RawMessage, error) {
	f := r.funcs[full]
	if f == nil {
		return nil, fmt.Errorf("this moonseal has no function %s", full)
	}
	plain, err := r.Decode(given)
	if err != nil || f.Impl.Result == nil || f.Returns == "" {
		return json.RawMessage("null"), err
	}
	t := f.Impl.Result
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if o, ok := plain.(*Object); ok && r.byGo[t] != nil && r.byGo[t].Version > 0 {
		ptr := reflect.New(t)
		if err := r.toStruct(o, ptr.Elem(), "the result", false); err != nil {
			return nil, err
		}
		plain = &Ref{Type: r.byGo[t], Ptr: ptr.Interface()}
	}
	dst := reflect.New(f.Impl.Result).Elem()
	if err := r.toGo(plain, dst, "the result", false); err != nil {
		return nil, err
	}
	return r.EncodeResult(dst.Interface())
}

// Fill checks a plain table strictly and puts it into the tagged struct that dst
// points to; what names the table in errors.
func (r *Registry) Fill(dst, table any, what string) error {
	o, ok := asObject(table)
	if !ok {
		return mustBe(what, "a table", table)
	}
	return r.toStruct(o, reflect.ValueOf(dst).Elem(), what, false)
}
