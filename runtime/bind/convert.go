package bind

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
	"moonseal/runtime/suggest"
)

// maxExact is the greatest integer up to which float64 holds all integers.
const maxExact = 1 << 53

// toStruct fills struct v from o. lenient takes unknown keys and missing fields,
// for data that an older or newer version wrote: a field that the other version did
// not know has its default.
func (r *Registry) toStruct(o *Object, v reflect.Value, path string, lenient bool) error {
	fields, err := r.fields(v.Type())
	if err != nil {
		return err
	}
	if !lenient && !open(v.Type()) {
		// First: a mistyped key is why another one is missing.
		if err := knownKeys(o, fields, path); err != nil {
			return err
		}
	}
	for _, f := range fields {
		got := o.Values[f.Name]
		if got == nil && f.Default == "" && (lenient || f.Optional) {
			continue
		}
		if err := r.fillField(f, got, v, join(path, f.Name), lenient); err != nil {
			return err
		}
	}
	return nil
}

func knownKeys(o *Object, fields []field, path string) error {
	for _, k := range o.Keys {
		if slices.ContainsFunc(fields, func(f field) bool { return f.Name == k }) {
			continue
		}
		var names []string
		for _, f := range fields {
			names = append(names, f.Name)
		}
		return problem.Invalid(join(path, k), "is not a known key"+suggest.Among(k, names))
	}
	return nil
}

func (r *Registry) fillField(f field, got any, v reflect.Value, path string, lenient bool) error {
	dst := v.FieldByIndex(f.index)
	if got == nil {
		return f.fillDefault(dst, path)
	}
	if err := r.toGo(got, dst, path, lenient); err != nil {
		return err
	}
	if len(f.Enum) > 0 && !lenient && !slices.Contains(f.Enum, dst.String()) {
		return problem.Invalid(path, fmt.Sprintf("must be one of %s, got %s%s", strings.Join(f.Enum, ", "), describe(got), suggest.Phrase(dst.String(), f.Enum)))
	}
	return nil
}

func (f field) fillDefault(dst reflect.Value, path string) error {
	if !f.Optional {
		return problem.Invalid(path, "is missing: "+f.Doc)
	}
	if f.Default == "" {
		return nil
	}
	switch {
	case f.Type == durationType:
		d, err := duration.Parse(f.Default)
		dst.SetInt(int64(d))
		return err
	case f.Type.Kind() == reflect.String:
		dst.SetString(f.Default)
	case f.Type.Kind() == reflect.Bool:
		dst.SetBool(f.Default == "true")
	case f.Type.Kind() == reflect.Int:
		n, err := strconv.ParseInt(f.Default, 10, 64)
		dst.SetInt(n)
		return err
	default:
		return fmt.Errorf("%s has a default that its type %v cannot take", path, f.Type)
	}
	return nil
}

// mustBe returns the error of an argument of another type than it must have.
func mustBe(path, what string, got any) error {
	return problem.Invalid(path, fmt.Sprintf("must be %s, got %s", what, describe(got)))
}

// join returns the path of a key of the table at path, "" for the outermost.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// toGo puts plain data into dst, strictly: no value is bent to another type.
func (r *Registry) toGo(got any, dst reflect.Value, path string, lenient bool) error {
	if got == nil && !lenient {
		if dst.Kind() == reflect.Interface {
			return nil
		}
		return mustBe(path, "a value", got)
	}
	if got == nil {
		return nil
	}
	switch dst.Type() {
	case timeType:
		n, ok := got.(float64)
		if !ok || math.Abs(n) > maxExact/1e6 {
			return mustBe(path, "an instant (Unix seconds)", got)
		}
		dst.Set(reflect.ValueOf(fromInstant(n)))
		return nil
	case durationType:
		return durationToGo(got, dst, path)
	case secretType:
		h, ok := got.(secret.Handle)
		if !ok {
			return mustBe(path, `a secret, such as secret "NAME"`, got)
		}
		dst.Set(reflect.ValueOf(h))
		return nil
	}
	if t := r.byGo[dst.Type()]; t != nil && t.Version > 0 {
		return r.handleToGo(t, got, dst, path)
	}
	if dst.Kind() == reflect.Pointer {
		if t := r.byGo[dst.Type().Elem()]; t != nil && t.Version > 0 {
			ptr := reflect.New(dst.Type().Elem())
			if err := r.handleToGo(t, got, ptr.Elem(), path); err != nil {
				return err
			}
			dst.Set(ptr)
			return nil
		}
		ptr := reflect.New(dst.Type().Elem())
		dst.Set(ptr)
		return r.toGo(got, ptr.Elem(), path, lenient)
	}
	return r.kindToGo(got, dst, path, lenient)
}

func (r *Registry) handleToGo(t *Type, got any, dst reflect.Value, path string) error {
	ref, ok := got.(*Ref)
	if !ok || ref.Type != t {
		return mustBe(path, "a "+t.Name, got)
	}
	dst.Set(reflect.ValueOf(ref.Ptr).Elem())
	return nil
}

func durationToGo(got any, dst reflect.Value, path string) error {
	var d time.Duration
	var err error
	switch g := got.(type) {
	case string:
		d, err = duration.Parse(g)
	case float64:
		d, err = duration.Seconds(g)
	default:
		return mustBe(path, `a duration, such as "30d" or a number of seconds`, got)
	}
	if err != nil {
		return &problem.Error{Kind: problem.Usage, Key: path, Message: path + ": " + err.Error()}
	}
	dst.SetInt(int64(d))
	return nil
}

func (r *Registry) kindToGo(got any, dst reflect.Value, path string, lenient bool) error {
	switch dst.Kind() {
	case reflect.Bool:
		b, ok := got.(bool)
		if !ok {
			return mustBe(path, "true or false", got)
		}
		dst.SetBool(b)
	case reflect.String:
		s, ok := got.(string)
		if !ok {
			return mustBe(path, "a string", got)
		}
		dst.SetString(s)
	case reflect.Int, reflect.Int64:
		n, ok := got.(float64)
		if !ok || n != math.Trunc(n) || math.Abs(n) > maxExact {
			return mustBe(path, "an integer", got)
		}
		dst.SetInt(int64(n))
	case reflect.Float64:
		n, ok := got.(float64)
		if !ok {
			return mustBe(path, "a number", got)
		}
		dst.SetFloat(n)
	case reflect.Interface:
		if ref, ok := got.(*Ref); ok {
			dst.Set(reflect.ValueOf(ref.Ptr))
			return nil
		}
		dst.Set(reflect.ValueOf(got))
	case reflect.Slice:
		return r.sliceToGo(got, dst, path, lenient)
	case reflect.Map:
		return r.mapToGo(got, dst, path, lenient)
	case reflect.Struct:
		if ref, ok := got.(*Ref); ok && open(dst.Type()) {
			data, err := r.fromGo(ref.Ptr, path)
			if err != nil {
				return err
			}
			got = data
		}
		o, ok := asObject(got)
		if !ok {
			return mustBe(path, "a table", got)
		}
		return r.toStruct(o, dst, path, lenient)
	default:
		return fmt.Errorf("%s cannot take %s", path, describe(got))
	}
	return nil
}

// asObject takes an empty list for an empty table: Lua has one empty table only.
func asObject(got any) (*Object, bool) {
	if list, ok := got.([]any); ok && len(list) == 0 {
		return NewObject(), true
	}
	o, ok := got.(*Object)
	return o, ok
}

func (r *Registry) sliceToGo(got any, dst reflect.Value, path string, lenient bool) error {
	list, ok := got.([]any)
	if o, isObject := got.(*Object); isObject && len(o.Keys) == 0 {
		list, ok = []any{}, true
	}
	if !ok {
		return mustBe(path, "a list", got)
	}
	out := reflect.MakeSlice(dst.Type(), len(list), len(list))
	for i, e := range list {
		if err := r.toGo(e, out.Index(i), fmt.Sprintf("%s[%d]", path, i+1), lenient); err != nil {
			return err
		}
	}
	dst.Set(out)
	return nil
}

func (r *Registry) mapToGo(got any, dst reflect.Value, path string, lenient bool) error {
	o, ok := asObject(got)
	if !ok {
		return mustBe(path, "a table", got)
	}
	out := reflect.MakeMap(dst.Type())
	for _, k := range o.Keys {
		e := reflect.New(dst.Type().Elem()).Elem()
		if err := r.toGo(o.Values[k], e, join(path, k), lenient); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(k).Convert(dst.Type().Key()), e)
	}
	dst.Set(out)
	return nil
}

// describe names what a script passed.
func describe(got any) string {
	switch g := got.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(g)
	case float64:
		return "the number " + strconv.FormatFloat(g, 'g', -1, 64)
	case string:
		const most = 60
		if len(g) > most {
			g = g[:most] + "…"
		}
		return "the string " + strconv.Quote(g)
	case []any:
		return fmt.Sprintf("a list of %d", len(g))
	case *Object:
		return "a table"
	case secret.Handle:
		return g.String()
	case *Ref:
		return "a " + g.Type.Name
	default:
		return fmt.Sprintf("a %T", got)
	}
}
