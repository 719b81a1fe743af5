package bind

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"moonseal/runtime/secret"
)

// Plain data is what travels between Lua, Go and the journal: nil, bool,
// float64, string, []any, *Object, secret.Handle and *Ref.

// Object is a table with string keys that keeps their order.
type Object struct {
	Keys   []string
	Values map[string]any
}

// NewObject returns an empty object.
func NewObject() *Object { return &Object{Values: map[string]any{}} }

// Set puts key to value; a nil value is left out, as in Lua.
func (o *Object) Set(key string, value any) {
	if value == nil {
		return
	}
	if _, old := o.Values[key]; !old {
		o.Keys = append(o.Keys, key)
	}
	o.Values[key] = value
}

// Ref is a handle: a pointer to a struct of one of the registry's types.
type Ref struct {
	Type *Type
	Ptr  any
}

const (
	maxDepth = 64

	handleKey = "$handle"
	secretKey = "$secret"
	bytesKey  = "$bytes"
)

// Encode returns plain data as JSON. Handles are written as name, version and
// fields, secrets as their names. Keys keep their order.
func (r *Registry) Encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := r.encode(&b, v, "value", 0); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (r *Registry) encode(b *bytes.Buffer, v any, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s is nested deeper than %d levels", path, maxDepth)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s is %v, which cannot be kept", path, v)
		}
		b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	case string:
		if utf8.ValidString(v) {
			writeString(b, v)
			return nil
		}
		b.WriteString(`{"` + bytesKey + `":"` + base64.StdEncoding.EncodeToString([]byte(v)) + `"}`)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := r.encode(b, e, fmt.Sprintf("%s[%d]", path, i+1), depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case *Object:
		return r.encodeObject(b, v, path, depth)
	case secret.Handle:
		b.WriteString(`{"` + secretKey + `":`)
		writeString(b, v.Name)
		b.WriteByte('}')
	case *Ref:
		data, err := r.fromGo(v.Ptr, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, `{"%s":"%s@%d","data":`, handleKey, v.Type.Name, v.Type.Version)
		if err := r.encode(b, data, path, depth+1); err != nil {
			return err
		}
		b.WriteByte('}')
	default:
		return fmt.Errorf("%s is a %T, which is not plain data", path, v)
	}
	return nil
}

func (r *Registry) encodeObject(b *bytes.Buffer, o *Object, path string, depth int) error {
	b.WriteByte('{')
	for i, k := range o.Keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if !utf8.ValidString(k) {
			return fmt.Errorf("%s has the key %q, which is not UTF-8", path, k)
		}
		if strings.HasPrefix(k, "$") {
			writeString(b, "$"+k)
		} else {
			writeString(b, k)
		}
		b.WriteByte(':')
		if err := r.encode(b, o.Values[k], path+"."+k, depth+1); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

// writeString writes s, which is UTF-8, about as encoding/json does, in a fraction
// of its time: most of what is journaled is PEM.
func writeString(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b.WriteString(s[from:i])
		from = i + 1
		switch c {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\b', '\f', '\n', '\r', '\t':
			b.WriteByte('\\')
			b.WriteByte("btn_fr"[c-'\b'])
		default:
			fmt.Fprintf(b, `\u%04x`, c)
		}
	}
	b.WriteString(s[from:])
	b.WriteByte('"')
}

// Decode reads what Encode wrote.
func (r *Registry) Decode(raw json.RawMessage) (any, error) {
	switch string(raw) { // what most steps return
	case "", "null":
		return nil, nil
	case "true", "false":
		return raw[0] == 't', nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	v, err := r.decode(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("journaled data cannot be read back: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("journaled data cannot be read back: more than one value")
	}
	return v, nil
}

func (r *Registry) decode(dec *json.Decoder, depth int) (any, error) {
	if depth > 3*maxDepth {
		return nil, errors.New("nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil // nil, bool, float64, string
	}
	if delim == '[' {
		list := []any{}
		for dec.More() {
			v, err := r.decode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return r.decodeObject(dec, depth)
}

func (r *Registry) decodeObject(dec *json.Decoder, depth int) (any, error) {
	o := NewObject()
	special := ""
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		v, err := r.decode(dec, depth+1)
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(key, "$$"):
			key = key[1:]
		case strings.HasPrefix(key, "$"):
			special = key
		}
		o.Set(key, v)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if special == "" {
		return o, nil
	}
	return r.special(special, o)
}

func (r *Registry) special(key string, o *Object) (any, error) {
	text, _ := o.Values[key].(string)
	switch key {
	case secretKey:
		return secret.Named(text)
	case bytesKey:
		raw, err := base64.StdEncoding.DecodeString(text)
		return string(raw), err
	case handleKey:
		data, _ := o.Values["data"].(*Object)
		return r.handle(text, data)
	}
	return nil, fmt.Errorf("unknown mark %s", key)
}
