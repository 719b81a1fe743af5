package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

func TestAFileIsReplacedWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "kept")
	path := filepath.Join(dir, "file")
	for _, want := range []string{"old and long", "new", ""} {
		must(t, atomicfile.WriteFile(path, []byte(want)))
		if b, err := os.ReadFile(path); string(b) != want || err != nil {
			t.Errorf("%q, %v, want %q", b, err, want)
		}
	}
	for path, want := range map[string]fs.FileMode{path: 0o600, dir: 0o700, filepath.Dir(dir): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, st, err, want)
		}
	}
	wantOnly(t, dir, "file")
}

func TestFilesAreReplacedTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	must(t, atomicfile.Replace(filepath.Join(dir, "first"), []byte("old")))
	must(t, atomicfile.WriteFiles(dir, atomicfile.File{Name: "first", Data: []byte("1")}, atomicfile.File{Name: "second", Data: []byte("2")}))
	for name, want := range map[string]string{"first": "1", "second": "2"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want || err != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	err := atomicfile.WriteFiles(dir, atomicfile.File{Name: "first", Data: []byte("3")}, atomicfile.File{Name: "folder"}, atomicfile.File{Name: "second", Data: []byte("3")})
	if err == nil || problem.From(err).Target != filepath.Join(dir, "folder") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "second")); string(b) != "2" || err != nil {
		t.Errorf("written behind what failed: %q, %v", b, err)
	}
	wantOnly(t, dir, "first", "folder", "second")
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "folder")
	must(t, os.MkdirAll(path, 0o700))
	if err := atomicfile.WriteFile(path, []byte("x")); err == nil || problem.From(err).Target != path {
		t.Errorf("a folder was replaced: %v", err)
	}
	wantOnly(t, dir, "folder")
}

func TestFolderThatOthersCanWrite(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	for name, err := range map[string]error{
		"WriteFile": atomicfile.WriteFile(filepath.Join(dir, "file"), nil),
		"MakeDir":   atomicfile.MakeDir(dir),
		"CheckDir":  atomicfile.CheckDir(dir),
	} {
		if kind(err) != problem.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantOnly(t, dir)
}

func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	err := atomicfile.WriteFile(filepath.Join(dir, "file", "below"), nil)
	if kind(err) != problem.Usage || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
}

func TestCheckDirTellsWhatIsMissing(t *testing.T) {
	if err := atomicfile.CheckDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

func kind(err error) problem.Kind {
	if err == nil {
		return ""
	}
	return problem.From(err).Kind
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
