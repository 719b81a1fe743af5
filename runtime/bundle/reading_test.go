package bundle_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"moonseal/runtime/bundle"
)

func TestKnownFilesAreNotOpened(t *testing.T) {
	dir := write(t, map[string]string{"a.lua": good, "foo/b.lua": good, "theirs.lua": good})
	if err := os.Chmod(filepath.Join(dir, "theirs.lua"), 0o666); err != nil {
		t.Fatal(err)
	}
	var folders, opened []string
	tree, err := bundle.ReadWith(dir, bundle.Reading{
		Folder: func(path string) { folders = append(folders, path) },
		Known:  func(name string, _ fs.FileInfo) (string, bool) { return "known", name != "foo/b.lua" },
		Read:   func(name string, _ fs.FileInfo, _ string) { opened = append(opened, name) },
	})
	if err != nil || tree.Files["a.lua"] != "known" || tree.Files["foo/b.lua"] != good || !slices.Equal(opened, []string{"foo/b.lua"}) {
		t.Errorf("%v, opened %v, %v", tree, opened, err)
	}
	if len(tree.Problems) != 1 || tree.Files["theirs.lua"] != "" {
		t.Errorf("a known file that others can write by now was taken: %v", tree.Problems)
	}
	if want := []string{tree.Dir, filepath.Join(tree.Dir, "foo")}; !slices.Equal(folders, want) {
		t.Errorf("folders %v, want %v", folders, want)
	}
}

// Kubernetes moves ..data while the folder is read: old and new files never meet.
func TestLinksThatMoveWhileReading(t *testing.T) {
	dir := write(t, map[string]string{"..1/a.lua": "1", "..1/foo/b.lua": "1", "..2/a.lua": "2", "..2/foo/b.lua": "2"})
	link := func(name, to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..data", "..1")
	link("a.lua", "..data/a.lua")
	link("foo", "..data/foo")
	link("..data_tmp", "..2")
	moved := false
	tree, err := bundle.ReadWith(dir, bundle.Reading{Folder: func(path string) {
		if filepath.Base(path) != "foo" || moved {
			return
		}
		moved = true
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Error(err)
		}
	}})
	if err != nil || tree.Files["a.lua"] != "2" || tree.Files["foo/b.lua"] != "2" {
		t.Errorf("%v, %v", tree, err)
	}
}

func TestLinksThatNeverRest(t *testing.T) {
	dir := write(t, map[string]string{"a.lua": good})
	turn := 0
	_, err := bundle.ReadWith(dir, bundle.Reading{Folder: func(string) {
		turn++
		_ = os.Remove(filepath.Join(dir, ".link"))
		_ = os.Symlink([]string{"x", "y"}[turn%2], filepath.Join(dir, ".link"))
	}})
	if err != nil {
		t.Fatal("a link that moves before it is seen moves nothing:", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	_, err = bundle.ReadWith(link, bundle.Reading{Folder: func(string) { _ = os.Remove(link) }})
	if err == nil {
		t.Error("a folder that went away while it was read was taken")
	}
}

func TestFilesThatGoWhileReading(t *testing.T) {
	dir := write(t, map[string]string{"a/x.lua": good, "b.lua": good})
	tree, err := bundle.ReadWith(dir, bundle.Reading{Folder: func(path string) {
		if filepath.Base(path) == "a" {
			_ = os.Remove(filepath.Join(dir, "b.lua"))
		}
	}})
	if err != nil || len(tree.Files) != 1 || len(tree.Problems) > 0 {
		t.Errorf("%v, %v", tree, err)
	}
}
