package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"moonseal/modules"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
)

const configSchema = "moonseal.schema.json"

// configFits reports what a config says against its schema.
func configFits(t *testing.T, text string) error {
	t.Helper()
	s, err := strictSchema(examples, configSchema)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestConfigSchemaKeys compares the schema of moonseal.yaml with what reads it.
func TestConfigSchemaKeys(t *testing.T) {
	doc, err := schemaFile(filepath.Join(examples, configSchema), false)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := doc.(map[string]any)
	keys := schemaKeys{t, root, false, yamlKeys}
	keys.compare("config", root, reflect.TypeFor[config.Config]())
	properties, _ := root["properties"].(map[string]any)
	node, _ := properties["modules"].(map[string]any)
	settings, _ := node["properties"].(map[string]any)
	known := map[string]bool{}
	for _, m := range modules.All() {
		if m.Settings == nil {
			continue
		}
		known[m.Name] = true
		module, _ := settings[m.Name].(map[string]any)
		if text, _ := module["description"].(string); text == "" {
			t.Errorf("the schema lacks the settings of module %s", m.Name)
		}
		keys.compare("modules."+m.Name, module, reflect.TypeOf(m.Settings))
	}
	for name := range settings {
		if !known[name] {
			t.Errorf("the schema has a module %s without settings", name)
		}
	}
}

// yamlKeys returns the keys that a struct has in YAML.
func yamlKeys(typ reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(typ) {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			keys[name] = f.Type
		}
	}
	return keys
}

// What the schema accepts is what moonseal accepts, as far as a schema can tell.
func TestConfigSchema(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "moonseal.yaml")
	text := read(t, filepath.Join(examples, "moonseal.yaml"))
	if !strings.HasPrefix(text, "# yaml-language-server: $schema=./"+configSchema+"\n") {
		t.Error("the example does not name its schema")
	}
	made := filepath.Join(dir, "made")
	if err := initialize(&bytes.Buffer{}, made); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(made, configSchema)) != read(t, filepath.Join(examples, configSchema)) {
		t.Error("init writes another schema")
	}
	whole := regexp.MustCompile(`(?m)^# ( *[A-Za-z_]+:)`).ReplaceAllString(text, "$1")
	ok := map[string]bool{
		text: true, whole: true, read(t, filepath.Join(made, "moonseal.yaml")): true, "# nothing\n": true, "hosts:\n": true, "limits: { memory: 1048576, cpu: 0.5 }": true,
		"limits: { cpu: 50% }": true, "keep: { runs: forever }": true, "stop_timeout: 1h30m": true, "log: { level: warn, format: json }": true,
		"listen: { socket: s, group: g }": true,

		"sate: x": false, "scripts: [a, b]": false, "log: { level: loud }": false, "log: { format: xml }": false, "limits: { memory: 5 apples }": false,
		"modules: { cucmm: { settle: 2s } }": false, "modules: { cucm: { setle: 2s } }": false, "modules: { cucm: { settle: soon } }": false,
		"secrets: { T: {} }": false, "secrets: { T: { file: f, env: e } }": false, "hosts: { cucm01: \"10.0.0.5:443\" }": false,
		"concurrency: 1001": false, "limits: { files: 8 }": false, "limits: { cpu: much }": false, "keep: { runs: sometimes }": false, "stop_timeout: 30 seconds": false,
		"grants: { dfw: { host: [a] } }": false, "replay: perhaps": false, "alerts: { urls: ONE }": false,
	}
	for yaml, good := range ok {
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{config: path, getenv: func(string) string { return "" }, stderr: &bytes.Buffer{}}
		cfg, err := a.loadConfig()
		if err == nil && !good {
			_, err = grant.New(cfg.Network()) // what only doctor and runs find
		}
		if (err == nil) != good {
			t.Errorf("moonseal: %v\n%s", err, yaml)
		}
		if err := configFits(t, yaml); (err == nil) != good {
			t.Errorf("the schema: %v\n%s", err, yaml)
		}
	}
}
