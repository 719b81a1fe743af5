package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// Decode reads YAML into the struct that dst points to and refuses keys without a field.
// Errors name source and line.
func Decode(data []byte, dst any, source string) error {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return explain(source, err, data)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return explain(source, errors.New("more than one YAML document"), nil)
	}
	return DecodeNode(&doc, dst, source)
}

// DecodeNode is Decode from a parsed node.
func DecodeNode(node *yaml.Node, dst any, source string) error {
	if err := known(node, reflect.TypeOf(dst), source); err != nil {
		return err
	}
	if err := node.Decode(dst); err != nil {
		return explain(source, err, nil)
	}
	return nil
}

// known searches for keys that t has no field for: KnownFields of yaml.v3 names Go types in
// its errors and has no suggestions.
func known(node *yaml.Node, t reflect.Type, source string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.DocumentNode:
		return known(node.Content[0], t, source)
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 1; i < len(node.Content); i += 2 {
			if err := known(node.Content[i], t.Elem(), source); err != nil {
				return err
			}
		}
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, e := range node.Content {
			if err := known(e, t.Elem(), source); err != nil {
				return err
			}
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct && t != reflect.TypeFor[yaml.Node]():
		return knownFields(node, t, source)
	}
	return nil
}

func knownFields(node *yaml.Node, t reflect.Type, source string) error {
	fields := map[string]reflect.Type{}
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			fields[name] = f.Type
			names = append(names, name)
		}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		ft, ok := fields[key.Value]
		if !ok {
			hint := "it knows " + strings.Join(names, ", ")
			if near := suggest.Closest(key.Value, names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return &problem.Error{Kind: problem.Usage, Target: fmt.Sprintf("%s:%d", source, key.Line), Message: fmt.Sprintf("unknown key %q", key.Value), Hint: hint}
		}
		if err := known(node.Content[i+1], ft, source); err != nil {
			return err
		}
	}
	return nil
}
