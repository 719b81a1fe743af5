package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

func TestFolderThatOthersCanWrite(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o775, 0o757} {
		dir := write(t, map[string]string{"a.lua": good})
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := bundle.Read(dir)
		if err == nil {
			t.Fatalf("%o was read", mode)
		}
		e := problem.From(err)
		if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) || !strings.Contains(e.Hint, "chmod") {
			t.Errorf("%v; hint: %s", err, e.Hint)
		}
	}
}

func TestFilesThatAreLeftOut(t *testing.T) {
	dir := write(t, map[string]string{
		"a.lua": good, "theirs.lua": good, "foo/b.lua": good, "big.lua": strings.Repeat("-", 300<<10), "dir.lua/x.txt": "",
	})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Chmod(filepath.Join(dir, "theirs.lua"), 0o666))
	check(os.Chmod(filepath.Join(dir, "foo"), 0o777))
	check(os.Symlink("/etc/passwd", filepath.Join(dir, "out.lua")))
	check(os.Symlink("nowhere.lua", filepath.Join(dir, "dangling.lua")))
	check(os.Symlink(".", filepath.Join(dir, "loop")))
	check(syscall.Mkfifo(filepath.Join(dir, "fifo.lua"), 0o600))
	tree, err := bundle.Read(dir)
	check(err)
	got := map[string]string{}
	for _, e := range tree.Problems {
		got[e.Place.File] = e.Error()
	}
	for file, want := range map[string]string{
		"theirs.lua": "others can write it (mode 0666)", "foo": "others can write it (mode 0777)", "big.lua": "longer than 256 KiB",
		"out.lua": "cannot be read", "dangling.lua": "cannot be read", "fifo.lua": "is no regular file",
		"loop": "is a link to a folder",
	} {
		if !strings.Contains(got[file], want) || !strings.Contains(got[file], filepath.Join(dir, file)) {
			t.Errorf("%s: %q", file, got[file])
		}
	}
	if tree.Files["a.lua"] != good || tree.Files["theirs.lua"] != "" || len(tree.Files) != 1 {
		t.Errorf("read %d files", len(tree.Files))
	}
}

func TestUnreadable(t *testing.T) {
	if _, err := bundle.Read(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := write(t, map[string]string{"a.lua": good, "b.lua": good})
	if err := os.Chmod(filepath.Join(dir, "b.lua"), 0); err != nil {
		t.Fatal(err)
	}
	tree, err := bundle.Read(dir)
	if err != nil || len(tree.Files) != 1 || len(tree.Problems) != 1 || tree.Problems[0].Hint == "" {
		t.Errorf("%v, %v", tree, err)
	}
}

// A Kubernetes ConfigMap: every name is a link into a folder that a link names.
func TestConfigMap(t *testing.T) {
	dir := write(t, map[string]string{"..2024_01/a.lua": good, "..2024_01/foo/b.lua": good})
	for link, to := range map[string]string{"..data": "..2024_01", "a.lua": "..data/a.lua", "foo": "..data/foo"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := bundle.Read(dir)
	if err != nil || len(tree.Files) != 2 || tree.Files["foo/b.lua"] != good || len(tree.Problems) > 0 {
		t.Errorf("%+v, %v", tree, err)
	}
}
