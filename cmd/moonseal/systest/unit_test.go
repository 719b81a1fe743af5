package systest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var unit = filepath.Join(examples, "systemd", "moonseal.service")

// analyze runs systemd-analyze(1) and returns all that it says.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: the unit is not checked (Debian: apt-get install systemd)")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// installed returns the unit as it is where moonseal is installed, which it is not here.
func installed(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(unit))
	text := strings.ReplaceAll(read(t, unit), "/usr/local/bin/moonseal", program)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestUnitIsClean(t *testing.T) {
	if said := analyze(t, "verify", "--man=no", installed(t)); said != "" {
		t.Errorf("systemd-analyze verify says:\n%s", said)
	}
}

func TestUnitIsExposedLittle(t *testing.T) {
	said := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=15", installed(t))
	if !strings.Contains(said, "Overall exposure level for moonseal.service:") {
		t.Errorf("it says nothing of exposure:\n%s", said)
	}
}

// What the unit shows commented out holds too.
func TestUnitWithCredentialsIsClean(t *testing.T) {
	file := installed(t)
	text := regexp.MustCompile(`(?m)^#(LoadCredential)`).ReplaceAllString(read(t, file), "$1")
	if strings.Count(text, "\nLoadCredential") < 3 {
		t.Fatal("the unit shows no credentials")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := analyze(t, "verify", "--man=no", file); said != "" {
		t.Errorf("systemd-analyze verify says:\n%s", said)
	}
}

// The calls that confine a run are not in the sets of a service.
func TestUnitAllowsWhatConfinesRuns(t *testing.T) {
	calls := regexp.MustCompile(`(?m)^SystemCallFilter=([a-z].*)$`).FindStringSubmatch(read(t, unit))
	if calls == nil {
		t.Fatal("the unit names no calls")
	}
	for _, call := range []string{"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
		if !slices.Contains(strings.Fields(calls[1]), call) {
			t.Errorf("the unit refuses %s", call)
		}
	}
}
