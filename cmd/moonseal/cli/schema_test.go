package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"moonseal/runtime/problem"
)

// schemaFile returns a schema, as JSON. Strict, it allows no key that it does not describe: so
// that a test sees one that is missing there, though a program must accept new ones.
func schemaFile(path string, strict bool) (any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil && strict {
		forbidOthers(doc)
	}
	return doc, err
}

func forbidOthers(node any) {
	switch node := node.(type) {
	case map[string]any:
		if _, is := node["properties"].(map[string]any); is {
			if _, says := node["additionalProperties"]; !says {
				node["additionalProperties"] = false
			}
		}
		for _, below := range node {
			forbidOthers(below)
		}
	case []any:
		for _, below := range node {
			forbidOthers(below)
		}
	}
}

// strictSchema compiles a schema in the folder dir, with those that it refers to.
func strictSchema(dir, name string) (*jsonschema.Schema, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, file := range files {
		doc, err := schemaFile(file, true)
		if err != nil {
			return nil, err
		}
		if err := c.AddResource("file:///schema/"+filepath.Base(file), doc); err != nil {
			return nil, err
		}
	}
	return c.Compile("file:///schema/" + name)
}

// checkSchema is a script's command: it validates each line of stdout.
func checkSchema(ts *testscript.TestScript, _ *scriptLab, args []string) {
	s, err := strictSchema("schema", args[0]+".json")
	ts.Check(err)
	for line := range strings.SplitSeq(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n") {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		ts.Check(err)
		if list, is := v.([]any); is && len(list) == 0 {
			ts.Fatalf("an empty list shows nothing")
		}
		if err := s.Validate(v); err != nil {
			ts.Fatalf("%s\n%v", line, err)
		}
	}
}

// TestSchemaKeys compares each schema with the type that is printed: both have the same keys,
// and each key of the schema is described.
func TestSchemaKeys(t *testing.T) {
	types := map[string]reflect.Type{
		"status": reflect.TypeFor[statusJSON](), "runs": reflect.TypeFor[[]runJSON](), "logs": reflect.TypeFor[logJSON](), "run": reflect.TypeFor[event](),
		"check": reflect.TypeFor[checkedJSON](), "doctor": reflect.TypeFor[[]findingJSON](), "secret": reflect.TypeFor[[]secretJSON](),
		"cleanup": reflect.TypeFor[[]undoJSON](), "reload": reflect.TypeFor[reloadJSON](), "problem": reflect.TypeFor[problem.Error](),
	}
	files, err := filepath.Glob("schema/*.json")
	if err != nil || len(files) != len(types) {
		t.Fatal(files, err)
	}
	for name, typ := range types {
		doc, err := schemaFile(filepath.Join("schema", name+".json"), false)
		if err != nil {
			t.Error(err)
			continue
		}
		root, _ := doc.(map[string]any)
		schemaKeys{t, root, name == "problem", jsonKeys}.compare(name, root, typ)
	}
}

// schemaKeys compares a schema with a type.
type schemaKeys struct {
	t        *testing.T
	root     map[string]any
	problems bool // problem.Error is described here, not referred to
	keys     func(reflect.Type) map[string]reflect.Type
}

// resolve follows a reference within the file, and leaves what can be null.
func (k schemaKeys) resolve(node map[string]any) map[string]any {
	if ref, is := node["$ref"].(string); is && strings.HasPrefix(ref, "#/$defs/") {
		defs, _ := k.root["$defs"].(map[string]any)
		node, _ = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		return node
	}
	if either, is := node["anyOf"].([]any); is {
		first, _ := either[0].(map[string]any)
		return k.resolve(first)
	}
	return node
}

func (k schemaKeys) compare(at string, node map[string]any, typ reflect.Type) {
	k.t.Helper()
	node = k.resolve(node)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case node["$ref"] == "problem.json":
		if typ != reflect.TypeFor[problem.Error]() {
			k.t.Errorf("%s is a problem in the schema, and a %s", at, typ)
		}
	case typ.Kind() == reflect.Slice && typ != reflect.TypeFor[json.RawMessage]():
		items, _ := node["items"].(map[string]any)
		if items == nil {
			k.t.Errorf("%s is a list, and has no items in the schema", at)
			return
		}
		k.compare(at+"[]", items, typ.Elem())
	case typ.Kind() == reflect.Map && node["additionalProperties"] != nil:
		items, _ := node["additionalProperties"].(map[string]any)
		k.compare(at+".*", items, typ.Elem())
	case typ.Kind() == reflect.Struct && len(k.keys(typ)) > 0:
		k.compareKeys(at, node, k.keys(typ))
	}
}

func (k schemaKeys) compareKeys(at string, node map[string]any, keys map[string]reflect.Type) {
	k.t.Helper()
	properties, _ := node["properties"].(map[string]any)
	for key, typ := range keys {
		property, is := properties[key].(map[string]any)
		if !is {
			k.t.Errorf("%s: the schema lacks %s", at, key)
			continue
		}
		if text, _ := property["description"].(string); text == "" {
			k.t.Errorf("%s: the schema does not describe %s", at, key)
		}
		k.compare(at+"."+key, property, typ)
	}
	for key := range properties {
		if _, is := keys[key]; !is {
			k.t.Errorf("%s: the schema has %s, which does not exist", at, key)
		}
	}
	required, _ := node["required"].([]any)
	for _, key := range required {
		if name, _ := key.(string); properties[name] == nil {
			k.t.Errorf("%s: the schema requires %v, which it does not describe", at, key)
		}
	}
}

// jsonKeys returns the keys that a struct has in JSON; none if it is one value there.
func jsonKeys(typ reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	if typ == reflect.TypeFor[time.Time]() {
		return keys
	}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		if _, outer := keys[name]; !outer || len(f.Index) == 1 {
			keys[name] = f.Type
		}
	}
	return keys
}

// What JSON prints of nothing has no null list in it.
func TestJSONHasNoNullLists(t *testing.T) {
	empty := checked{}
	for name, v := range map[string]any{
		"check": checkedOut(&empty), "runs": each([]shownRun{{}}, runOut), "doctor": findingsJSON(nil), "secret": secretsJSON(nil), "cleanup": undosJSON(nil),
	} {
		text, err := json.Marshal(v)
		if err != nil || slices.Contains(strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(`:,{}[]`, r) }), "null") {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}
