package reload_test

import (
	"os"
	"path/filepath"
	"testing"

	"moonseal/runtime/reload"
)

func TestFolderThatGoesAndComesBack(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1"), "foo/b.lua": script("1")}).start()
	w.check(os.Rename(w.dir, w.dir+".old"))
	s, c := w.next()
	w.wantChanges(c, "", "", "")
	if len(s.Playbooks) != 2 || len(s.Problems) != 1 || s.Problems[0].Place != nil {
		t.Fatalf("%s", show(s))
	}
	if _, err := w.r.Reload(t.Context()); err == nil {
		t.Error("a Reload of a missing folder did not fail")
	}
	if n := w.log.count("the scripts folder cannot be used"); n != 1 {
		t.Errorf("said %d times", n)
	}
	// An empty one in its place, such as where a volume is not mounted, is not taken for it.
	w.mkdir(w.dir)
	s = w.until("the empty folder", func(s *reload.Snapshot) bool { return s.Problems[0].Hint != "" })[0][1]
	if len(s.Playbooks) != 2 {
		t.Fatalf("%s", show(s))
	}
	w.put("a.lua", script("2"))
	s = w.until("the new folder", func(s *reload.Snapshot) bool { return len(s.Problems) == 0 })[0][1]
	w.wantSchedule(s, "a", "2")
	w.put("foo/c.lua", script("1"))
	w.until("a new file in it", func(s *reload.Snapshot) bool { return s.Find("foo/c") != nil && s.Find("foo/b") == nil })
}

// A folder that is made anew at once often has the number of the one before.
func TestFolderThatIsMadeAnew(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start()
	for range 20 {
		w.check(os.RemoveAll(w.dir))
		w.mkdir(w.dir)
		if _, err := w.r.Reload(t.Context()); err == nil {
			t.Fatal("another folder, which is empty, is taken for one whose scripts were all removed")
		}
	}
	if s := w.r.Current(); s.Find("a") == nil {
		t.Errorf("%s", show(s))
	}
	w.put("b.lua", script("1"))
	if s, err := w.r.Reload(t.Context()); err != nil || s.Find("a") != nil || s.Find("b") == nil {
		t.Errorf("%s, %v", show(s), err)
	}
}

func TestFolderThatIsNotThereYet(t *testing.T) {
	w := newWorld(t, nil)
	w.dir = filepath.Join(w.dir, "some", "where")
	w.start()
	if s := w.r.Current(); len(s.Problems) != 1 {
		t.Fatalf("%s", show(s))
	}
	w.mkdir(filepath.Dir(w.dir))
	w.put("a.lua", script("1"))
	s := w.until("the folder", func(s *reload.Snapshot) bool { return len(s.Problems) == 0 })[0][1]
	w.wantSchedule(s, "a", "1")
	w.put("a.lua", script("2"))
	s, _ = w.next()
	w.wantSchedule(s, "a", "2")
}

func TestFolderThatIsALink(t *testing.T) {
	w := newWorld(t, nil)
	root := w.dir
	w.dir = filepath.Join(root, "releases", "1")
	w.put("a.lua", script("1"))
	w.put("b.lua", script("1"))
	w.dir = filepath.Join(root, "releases", "2")
	w.put("a.lua", script("2"))
	w.put("b.lua", script("2"))
	w.check(os.Symlink("releases/1", filepath.Join(root, "current")))
	w.dir = filepath.Join(root, "scripts")
	w.check(os.Symlink("current/.", w.dir)) // a link by way of a link
	w.start()
	w.check(os.Symlink("releases/2", filepath.Join(root, "tmp")))
	w.check(os.Rename(filepath.Join(root, "tmp"), filepath.Join(root, "current")))
	s, c := w.next()
	w.wantChanges(c, "", "a b", "")
	w.wantSchedule(s, "a", "2")
	w.put("a.lua", script("3"))
	s, _ = w.next()
	w.wantSchedule(s, "a", "3")
}

// A Kubernetes ConfigMap: ..data moves, and the old folder goes.
func TestConfigMap(t *testing.T) {
	w := newWorld(t, map[string]string{"..1/a.lua": needy("1", "lib.x"), "..1/lib/x.lua": "return 1"})
	for link, to := range map[string]string{"..data": "..1", "a.lua": "..data/a.lua", "lib": "..data/lib"} {
		w.check(os.Symlink(to, w.path(link)))
	}
	w.start()
	for _, v := range []string{"2", "3", "4"} {
		w.put(".."+v+"/a.lua", needy(v, "lib.x"))
		w.put(".."+v+"/lib/x.lua", "return "+v)
		w.check(os.Symlink(".."+v, w.path("..data_tmp")))
		old, err := os.Readlink(w.path("..data"))
		w.check(err)
		w.check(os.Rename(w.path("..data_tmp"), w.path("..data")))
		w.check(os.RemoveAll(w.path(old)))
		s, c := w.next()
		w.wantChanges(c, "", "a", "")
		w.wantSchedule(s, "a", v)
		if s.Find("a").Files()["lib/x.lua"] != "return "+v || len(s.Problems) > 0 {
			t.Errorf("%s %v", show(s), s.Find("a").Files())
		}
	}
}

func TestNewFoldersAreWatched(t *testing.T) {
	w := newWorld(t, nil).start()
	w.put("foo/lib/deep/x.lua", "return 1")
	w.put("foo/a.lua", needy("1", "lib.deep.x"))
	w.until("a", func(s *reload.Snapshot) bool { return s.Find("foo/a") != nil })
	w.put("foo/lib/deep/x.lua", "return 2")
	_, c := w.next()
	w.wantChanges(c, "", "foo/a", "")
	w.check(os.RemoveAll(w.path("foo")))
	w.put("foo/a.lua", script("3")) // a new folder, perhaps with the inode of the old
	w.until("the new folder", func(s *reload.Snapshot) bool { return s.Find("foo/a") != nil && s.Find("foo/a").Schedule == "3" })
	w.put("foo/a.lua", script("4"))
	s, _ := w.next()
	w.wantSchedule(s, "foo/a", "4")
}

func TestFilesOfEditorsAreNoHints(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start()
	looks := w.r.Stats().Looks
	w.put(".a.lua.swp", "x")
	w.check(os.WriteFile(filepath.Join(filepath.Dir(w.dir), "other"), nil, 0o600))
	w.put("b.lua", script("1"))
	w.next()
	if n := w.r.Stats().Looks - looks; n > 2 {
		t.Errorf("%d looks", n)
	}
}
