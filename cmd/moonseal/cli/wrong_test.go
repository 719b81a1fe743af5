package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"moonseal/runtime/problem"
)

// TestWrongScripts checks that each script in testdata/wrong is refused while it is
// loaded, at its own line and with a hint, and that the words stay as they are in
// testdata/wrong.golden; -update writes it again.
func TestWrongScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "scripts"), os.DirFS(filepath.Join("testdata", "wrong"))); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "moonseal.yaml")
	if err := os.WriteFile(config, []byte("scripts: scripts\nstate: state\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(flags ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "moonseal", append([]string{"check", "--config", config}, flags...)...)
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed {
			t.Fatalf("%v: %s", err, complaint.Bytes())
		}
		return out.Bytes()
	}
	var report checked
	if err := json.Unmarshal(check("--json"), &report); err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Playbooks {
		t.Errorf("%s is taken for a good one", p.File)
	}
	for _, e := range report.Problems {
		refusedWell(t, e)
	}
	golden := filepath.Join("testdata", "wrong.golden")
	got := check()
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, golden); string(got) != want {
		t.Errorf("%s:\n%s", golden, diff(want, string(got)))
	}
}

// refusedWell checks that an error names the script's own line and helps.
func refusedWell(t *testing.T, e *problem.Error) {
	t.Helper()
	switch {
	case e.Place == nil || !strings.HasSuffix(e.Place.File, ".lua"):
		t.Errorf("%s: no place in a script: %+v", e, e.Place)
	case e.Place.Line == 0 && !strings.Contains(e.Hint, "UTF-8"): // whose lines cannot be shown
		t.Errorf("%s: %s: no line", e.Place.File, e)
	case e.Hint == "" && !strings.Contains(e.Message, "did you mean") && !strings.Contains(e.Message, "it knows"):
		t.Errorf("%s: %s: neither a hint nor a suggestion", e.Place.File, e)
	}
}

// diff lists the lines that only one of two texts has.
func diff(want, got string) string {
	var b strings.Builder
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}
