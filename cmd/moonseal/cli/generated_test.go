package cli

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moonseal/modules"
	"moonseal/runtime/bind"
)

var update = flag.Bool("update", false, "write the generated files again")

// The reference is in modules/README.md between these lines.
const (
	beginReference = "<!-- BEGIN reference -->\n"
	endReference   = "<!-- END reference -->\n"
	generatedNote  = "<!-- Written by make generate from the modules' specs. DO NOT EDIT. -->\n\n"
)

// TestGenerated checks that what is generated from the modules' specs and is
// committed, the editor's stubs and the reference in modules/README.md, is current. make
// generate runs it with -update, which writes them.
func TestGenerated(t *testing.T) {
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		t.Fatal(err)
	}
	stubs := filepath.Join(root, "scripts", ".stubs")
	want := map[string]string{}
	for name, text := range stubFiles(reg) {
		want[filepath.Join(stubs, name)] = text
	}
	readme := filepath.Join(root, "modules", "README.md")
	if want[readme], err = withReference(read(t, readme), reg.Reference(2)); err != nil {
		t.Error(err)
		delete(want, readme)
	}
	if *update {
		write(t, stubs, want)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if read(t, name) != want[name] {
			t.Errorf("%s is stale: make generate writes it again", name)
		}
	}
	for _, name := range strange(t, stubs, want) {
		t.Errorf("%s is of no module: make generate removes it", name)
	}
}

// write makes the files be as wanted, and removes other stubs.
func write(t *testing.T, stubs string, want map[string]string) {
	t.Helper()
	if err := os.MkdirAll(stubs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range strange(t, stubs, want) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// strange lists the files in the stubs folder that nothing generates.
func strange(t *testing.T, stubs string, want map[string]string) []string {
	t.Helper()
	there, err := filepath.Glob(filepath.Join(stubs, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(there, func(name string) bool { return want[name] != "" })
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// withReference puts the reference into the text of modules/README.md.
func withReference(readme, reference string) (string, error) {
	before, rest, begins := strings.Cut(readme, beginReference)
	_, after, ends := strings.Cut(rest, endReference)
	if !begins || !ends {
		return "", errors.New("modules/README.md lacks the lines between which the reference is:\n" + beginReference + endReference)
	}
	return before + beginReference + generatedNote + reference + endReference + after, nil
}

func TestReferenceTakesItsPlace(t *testing.T) {
	old := "# A\n" + beginReference + "old\n" + endReference + "z\n"
	got, err := withReference(old, "new\n")
	if want := "# A\n" + beginReference + generatedNote + "new\n" + endReference + "z\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if again, err := withReference(got, "new\n"); err != nil || again != got {
		t.Errorf("the second time returns %q, %v", again, err)
	}
	for _, readme := range []string{"", "# A\n", beginReference, endReference, endReference + beginReference} {
		if got, err := withReference(readme, "new\n"); err == nil {
			t.Errorf("%q returns %q", readme, got)
		}
	}
}
