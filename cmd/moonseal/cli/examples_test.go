package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"moonseal/runtime/config"
	"moonseal/runtime/run"
)

var examples = filepath.Join(root, "examples")

// Each playbook in examples/ renews a certificate, unchanged.
func TestExamplesRenew(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.lua"))
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".lua")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLabSite(t)
			w.script(name, read(t, file))
			p := w.start("", "run", name, "--config", w.config(), "--force")
			if code := p.wait(); code != exitDone {
				t.Fatalf("exit code %d:\n%s", code, p.out.String())
			}
			w.renewed()
			again := w.start("", "run", name, "--config", w.config(), "--detailed-exitcode")
			if code := again.wait(); code != exitNotDue {
				t.Errorf("the second time: exit code %d, want %d:\n%s", code, exitNotDue, again.out.String())
			}
		})
	}
}

// The config in examples/ holds as it is, and with all that it shows put in.
func TestExampleConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "moonseal.yaml")
	text := read(t, filepath.Join(examples, "moonseal.yaml"))
	whole := regexp.MustCompile(`(?m)^# ( *[A-Za-z_]+:)`).ReplaceAllString(text, "$1")
	if strings.Count(whole, "\n# ") == strings.Count(text, "\n# ") {
		t.Fatal("the example shows nothing")
	}
	for _, yaml := range []string{text, whole} {
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{config: path, getenv: func(string) string { return "" }, stderr: &bytes.Buffer{}}
		cfg, err := a.loadConfig()
		if err != nil {
			t.Fatalf("%v\n%s", err, yaml)
		}
		if cfg.Scripts != filepath.Join(dir, "scripts") || cfg.Limits.Memory != config.DefaultMemory {
			t.Errorf("the defaults that it names are others: %+v", cfg)
		}
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		if key := field.Tag.Get("yaml"); key != "-" && !strings.Contains(whole, "\n"+key+":") {
			t.Errorf("the example lacks %s", key)
		}
	}
}

// What the README shows of examples/ is what stands there.
func TestReadmeShowsTheExamples(t *testing.T) {
	readme := read(t, filepath.Join(root, "README.md"))
	for _, name := range []string{"dfw.lua", "cucm01-pipeline.lua"} {
		if !strings.Contains(readme, "```lua\n"+read(t, filepath.Join(examples, name))+"```\n") {
			t.Errorf("README.md does not show %s as it is", name)
		}
	}
}

// The README names all that ctx has, and every command.
func TestReadmeIsWhole(t *testing.T) {
	readme := read(t, filepath.Join(root, "README.md"))
	methods := regexp.MustCompile(`(?m)^function (ctx:\w+)`).FindAllStringSubmatch(run.Stub, -1)
	if len(methods) < 5 {
		t.Fatalf("the stub has %v", methods)
	}
	for _, m := range methods {
		if !strings.Contains(readme, "| `"+m[1]) {
			t.Errorf("README.md does not explain %s", m[1])
		}
	}
	for _, c := range (&app{}).root().Commands() {
		if !strings.Contains(readme, "moonseal "+c.Name()) && !c.Hidden {
			t.Errorf("README.md does not name moonseal %s", c.Name())
		}
	}
}
