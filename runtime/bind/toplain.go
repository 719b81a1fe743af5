package bind

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/secret"
)

// ToPlain returns a Go value, of the types in the package's doc, as plain data.
func (r *Registry) ToPlain(v any) (any, error) { return r.toPlain(reflect.ValueOf(v), "result") }

// fromGo returns the fields of the struct that ptr points to.
func (r *Registry) fromGo(ptr any, path string) (any, error) {
	return r.structToPlain(reflect.ValueOf(ptr).Elem(), path)
}

func (r *Registry) structToPlain(v reflect.Value, path string) (any, error) {
	fields, err := r.fields(v.Type())
	if err != nil {
		return nil, err
	}
	o := NewObject()
	for _, f := range fields {
		value, err := r.toPlain(v.FieldByIndex(f.index), path+"."+f.Name)
		if err != nil {
			return nil, err
		}
		o.Set(f.Name, value)
	}
	return o, nil
}

func (r *Registry) toPlain(v reflect.Value, path string) (any, error) {
	if !v.IsValid() {
		return nil, nil
	}
	switch v.Type() {
	case timeType:
		t := v.Interface().(time.Time)
		if t.IsZero() {
			return nil, nil
		}
		return instant(t), nil
	case durationType:
		return v.Interface().(time.Duration).Seconds(), nil
	case secretType:
		if h := v.Interface().(secret.Handle); !h.IsZero() {
			return h, nil
		}
		return nil, nil
	}
	if ref, ok := r.ref(v); ok {
		return ref, nil
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int64:
		return float64(v.Int()), nil
	case reflect.Float64:
		return v.Float(), nil
	case reflect.Interface:
		return r.dynamicToPlain(v, path)
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return r.toPlain(v.Elem(), path)
	case reflect.Slice:
		if v.IsNil() {
			return nil, nil
		}
		list := make([]any, v.Len())
		for i := range list {
			e, err := r.toPlain(v.Index(i), fmt.Sprintf("%s[%d]", path, i+1))
			if err != nil {
				return nil, err
			}
			list[i] = e
		}
		return list, nil
	case reflect.Map:
		return r.mapToPlain(v, path)
	case reflect.Struct:
		return r.structToPlain(v, path)
	}
	return nil, fmt.Errorf("%s is a %v, which cannot reach Lua", path, v.Type())
}

func (r *Registry) dynamicToPlain(v reflect.Value, path string) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	switch p := v.Interface().(type) {
	case *Object, *Ref:
		return p, nil
	}
	return r.toPlain(v.Elem(), path)
}

func (r *Registry) mapToPlain(v reflect.Value, path string) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	o := NewObject()
	for _, k := range keys {
		e, err := r.toPlain(v.MapIndex(k), path+"."+k.String())
		if err != nil {
			return nil, err
		}
		o.Set(k.String(), e)
	}
	return o, nil
}

// instant returns t as Unix seconds, to the microsecond.
func instant(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// fromInstant is the inverse of instant.
func fromInstant(n float64) time.Time { return time.UnixMicro(int64(math.Round(n * 1e6))).UTC() }
