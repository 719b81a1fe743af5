package bundle_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	check(os.Symlink("self.lua", filepath.Join(dir, "self.lua")))
	check(os.Symlink("self", filepath.Join(dir, "self")))
	check(syscall.Mkfifo(filepath.Join(dir, "fifo.lua"), 0o600))
	tree, err := bundle.Read(dir)
	check(err)
	got := map[string]string{}
	for _, e := range tree.Problems {
		got[e.Place.File] = e.Error()
	}
	for file, want := range map[string]string{
		"theirs.lua": "others can write it (mode 0666)", "foo": "others can write it (mode 0777)", "big.lua": "longer than 256 KiB",
		"out.lua": "leads out of the scripts folder, to a file that is not called .lua", "dangling.lua": "cannot be read", "fifo.lua": "is not a regular file",
		"loop": "symlink loop", "self.lua": "symlink loop", "self": "symlink loop",
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

// sites-available, Nix and stow put links to other folders into the scripts folder.
func TestLinksThatLeadOut(t *testing.T) {
	dir := write(t, map[string]string{"a.lua": good})
	out := write(t, map[string]string{"dfw.lua": good, "tenant/b.lua": good, "tenant/deep/c.lua": good, "lib/x.lua": "return 1"})
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(out, "dfw.lua"), "dfw.lua")
	link(filepath.Join(out, "tenant"), "tenant")
	link(filepath.Join(dir, "a.lua"), "absolute.lua")
	link(filepath.Join(out, "hop"), "lib")
	if err := errors.Join(os.Symlink("lib", filepath.Join(out, "hop")), os.Symlink("../dfw.lua", filepath.Join(out, "tenant", "up.lua")), os.Symlink(dir, filepath.Join(out, "tenant", "round"))); err != nil {
		t.Fatal(err)
	}
	var folders []string
	tree, err := bundle.ReadWith(dir, bundle.Reading{Folder: func(path string) { folders = append(folders, path) }})
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(tree.Files))
	if want := []string{"a.lua", "absolute.lua", "dfw.lua", "lib/x.lua", "tenant/b.lua", "tenant/deep/c.lua", "tenant/up.lua"}; !slices.Equal(names, want) {
		t.Errorf("read %v, want %v", names, want)
	}
	if len(tree.Problems) != 1 || !strings.Contains(tree.Problems[0].Error(), "tenant/round: symlink loop") {
		t.Errorf("problems %v", tree.Problems)
	}
	if !slices.Contains(folders, out) || !slices.Contains(folders, filepath.Join(dir, "tenant")) {
		t.Errorf("where changes would be seen: %v", folders)
	}
}

func TestLinksThatLeadToWhatOthersCanChange(t *testing.T) {
	for name, c := range map[string]struct {
		change func(out, link string) error
		root   bool
		says   string
	}{
		"folder of all":         {func(out, _ string) error { return os.Chmod(out, 0o777) }, false, "others can write this folder (mode 0777)"},
		"folder above of all":   {func(out, _ string) error { return os.Chmod(filepath.Dir(out), 0o777) }, false, "others can write this folder (mode 0777)"},
		"script of all":         {func(out, _ string) error { return os.Chmod(filepath.Join(out, "dfw.lua"), 0o666) }, false, "others can write it (mode 0666)"},
		"another user's link":   {func(_, link string) error { return os.Lchown(link, 4242, 0) }, true, "this link belongs to uid 4242"},
		"another user's folder": {func(out, _ string) error { return os.Chown(out, 4242, 0) }, true, "belongs to uid 4242"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			dir := write(t, map[string]string{"a.lua": good})
			out := filepath.Join(write(t, map[string]string{"sites/dfw.lua": good}), "sites")
			script, folder := filepath.Join(dir, "dfw.lua"), filepath.Join(dir, "tenant")
			if err := errors.Join(os.Symlink(filepath.Join(out, "dfw.lua"), script), os.Symlink(out, folder)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.change(out, script), c.change(out, folder)); err != nil {
				t.Fatal(err)
			}
			tree, err := bundle.Read(dir)
			if err != nil || len(tree.Files) != 1 || len(tree.Problems) != 2 {
				t.Fatalf("%+v, %v", tree, err)
			}
			for _, e := range tree.Problems {
				if !strings.Contains(e.Error(), c.says) {
					t.Errorf("%v, want %s", e, c.says)
				}
			}
			if e := tree.Problems[0].Error(); !strings.HasPrefix(e, script+": leads out of the scripts folder, and is not followed: ") {
				t.Errorf("got %s", e)
			}
		})
	}
}
