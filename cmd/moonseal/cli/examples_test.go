package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
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

// What a document shows of an example is what the file holds.
func TestDocumentsShowTheExamples(t *testing.T) {
	for name, document := range map[string]string{
		"dfw.lua": "README.md", "cucm01-pipeline.lua": "scripts/README.md", "cluster/cluster.lua": "examples/cluster/README.md",
	} {
		if !strings.Contains(read(t, filepath.Join(root, document)), "```lua\n"+read(t, filepath.Join(examples, name))+"```\n") {
			t.Errorf("%s does not show %s as it is", document, name)
		}
	}
}

// The guides name all that ctx has, every command and every key of the config.
func TestDocumentsAreWhole(t *testing.T) {
	readme, guide, operate := read(t, filepath.Join(root, "README.md")), read(t, filepath.Join(root, "scripts", "README.md")), read(t, filepath.Join(examples, "operate", "README.md"))
	if n := len(readme); n >= 25_000 {
		t.Errorf("README.md has %d bytes, want less than 25,000: it is for users, and links to the rest", n)
	}
	methods := regexp.MustCompile(`(?m)^function (ctx:\w+)`).FindAllStringSubmatch(run.Stub, -1)
	if len(methods) < 5 {
		t.Fatalf("the stub has %v", methods)
	}
	for _, m := range methods {
		if !strings.Contains(guide, "| `"+m[1]) {
			t.Errorf("scripts/README.md does not explain %s", m[1])
		}
	}
	for _, c := range (&app{}).root().Commands() {
		if !strings.Contains(readme, "moonseal "+c.Name()) && !c.Hidden {
			t.Errorf("README.md does not name moonseal %s", c.Name())
		}
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		if key := field.Tag.Get("yaml"); key != "-" && !strings.Contains(operate, "\n| `"+key+"`") && !strings.Contains(operate, "\n| `"+key+".") {
			t.Errorf("examples/operate/README.md does not explain %s of the config", key)
		}
	}
}

// Each make target that a document names is one, and each relative link leads to a file.
func TestDocumentsLead(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	link, target := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`), regexp.MustCompile("(?m)`make ([a-z-]+)|^make ([a-z-]+)")
	for _, name := range documents(t) {
		text := read(t, filepath.Join(root, name))
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+m[2]+":") {
				t.Errorf("%s: there is no make %s%s", name, m[1], m[2])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}

// Each direct dependency has a reason, and nothing else has one.
func TestDependenciesHaveReasons(t *testing.T) {
	_, direct, _ := strings.Cut(read(t, filepath.Join(root, "go.mod")), "require (\n")
	direct, _, _ = strings.Cut(direct, "\n)")
	var want []string
	for line := range strings.Lines(direct) {
		want = append(want, strings.Fields(line)[0])
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(read(t, filepath.Join(root, ".github", "DEPENDENCIES.md")), -1) {
		got = append(got, m[1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("DEPENDENCIES.md has\n%s\ngo.mod has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
