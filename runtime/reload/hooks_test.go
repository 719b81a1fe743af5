package reload_test

import (
	"os"
	"path/filepath"
	"testing"

	"moonseal/runtime/reload"
)

const (
	oneHook     = "return { failure = function() end }"
	anotherHook = "return { success = function() end }"
)

func (w *world) wantSource(s *reload.Snapshot, file, want string) {
	w.t.Helper()
	for _, p := range s.Playbooks {
		if got := p.Files()[file]; got != want {
			w.t.Errorf("%s has %s %q, want %q: %s", p.Name, file, got, want, show(s))
		}
	}
}

// A broken hook is missed by nobody: the last good one stays in all playbooks, those
// that are edited meanwhile too.
func TestBrokenHookLeavesTheLastGoodOne(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1"), "foo/b.lua": script("1"), "hooks/chat.lua": oneHook}).start()
	w.wantSource(w.r.Current(), "hooks/chat.lua", oneHook)
	w.put("hooks/chat.lua", "return {")
	s := w.now()
	if e := s.Problem("hooks/chat.lua"); e == nil || e.Place.Line != 1 || len(s.Problems) != 1 {
		t.Errorf("%s", show(s))
	}
	w.wantSource(s, "hooks/chat.lua", oneHook)
	w.put("a.lua", script("2"))
	w.put("new.lua", script("1"))
	s = w.now()
	w.wantSchedule(s, "a", "2")
	w.wantSource(s, "hooks/chat.lua", oneHook)
	if s.Problem("hooks/chat.lua") == nil || len(s.Playbooks) != 3 {
		t.Errorf("%s", show(s))
	}
	w.put("hooks/chat.lua", anotherHook)
	s = w.now()
	w.wantSource(s, "hooks/chat.lua", anotherHook)
	if len(s.Problems) != 0 {
		t.Errorf("%s", show(s))
	}

	// One that never was in order is left out, and one that is gone is.
	w.put("hooks/bad.lua", "return 5")
	s = w.now()
	w.wantSource(s, "hooks/chat.lua", anotherHook)
	if s.Problem("hooks/bad.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.check(os.Remove(w.path("hooks/chat.lua")))
	w.wantSource(w.now(), "hooks/chat.lua", "")
}

// A hook that a library breaks, and fixes again.
func TestHookThatItsLibraryBreaks(t *testing.T) {
	hook := `local say = require "lib.say" say() ` + oneHook
	w := newWorld(t, map[string]string{"a.lua": script("1"), "hooks/chat.lua": hook, "lib/say.lua": "return function() end"}).start()
	w.put("lib/say.lua", "return 5")
	if s := w.now(); s.Problem("hooks/chat.lua") == nil && s.Problem("lib/say.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.put("lib/say.lua", "return function() end -- again")
	s := w.now()
	w.wantSource(s, "hooks/chat.lua", hook)
	if len(s.Problems) != 0 {
		t.Errorf("%s", show(s))
	}
}

// Hooks may stand in a folder of their own, which is watched as the scripts' is.
func TestHooksOfAnotherFolder(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1"), "hooks/own.lua": oneHook})
	scripts, central := w.dir, filepath.Join(filepath.Dir(w.dir), "central")
	w.dir = central
	w.put("chat.lua", oneHook)
	w.start(func(o *reload.Options) { o.Dir, o.Hooks = scripts, central })
	w.wantSource(w.r.Current(), "hooks/chat.lua", oneHook)
	w.wantSource(w.r.Current(), "hooks/own.lua", "")
	w.put("chat.lua", anotherHook)
	s, c := w.next()
	w.wantChanges(c, "", "a", "")
	w.wantSource(s, "hooks/chat.lua", anotherHook)

	w.check(os.Rename(central, central+".old"))
	w.until("no folder of hooks", func(s *reload.Snapshot) bool { return len(s.Problems) == 1 })
	w.wantSource(w.r.Current(), "hooks/chat.lua", anotherHook)
	w.check(os.Rename(central+".old", central))
	w.until("the folder of hooks again", func(s *reload.Snapshot) bool { return len(s.Problems) == 0 })

	s, err := w.r.Renew(t.Context(), reload.Folders{Scripts: scripts})
	w.check(err)
	w.wantSource(s, "hooks/own.lua", oneHook)
	w.wantSource(s, "hooks/chat.lua", "")
}
