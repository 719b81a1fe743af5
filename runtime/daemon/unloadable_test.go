package daemon

import (
	"context"
	"testing"
	"time"
)

// What is broken when the daemon starts, and has never run, raises an alert at
// once, and another when it is fixed.
func TestBrokenSinceBeforeTheStart(t *testing.T) {
	h := newHouse(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	h.file("dfw.lua", "half a script")
	h.script("good", script{})
	sent := make(chan string, 10)
	h.send = func(_ context.Context, title, message string) error {
		sent <- title + " | " + message
		return nil
	}
	h.start()
	s, err := h.daemon.Status(t.Context())
	h.check(err)
	if len(s.Playbooks) != 2 || s.Playbooks[0].Name != "dfw" || s.Playbooks[0].Script != "dfw.lua" || s.Playbooks[0].Bundle != "" || s.Playbooks[0].Error == nil {
		t.Errorf("status: %+v", s.Playbooks)
	}
	if l := h.log.of("moonseal serves"); len(l) != 1 || l[0].args["broken"] != "dfw.lua" || l[0].args["playbooks"] != "1" {
		t.Errorf("log: %v", l)
	}
	want := func(want string) {
		t.Helper()
		select {
		case got := <-sent:
			if got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no alert: %q", want)
		}
	}
	text := "dfw.lua:1 is broken, and nothing of it runs: " + s.Playbooks[0].Error.Error()
	want("[WARN] dfw: dfw.lua:1 is broken | " + text + "\nnext: moonseal check")
	h.script("dfw", script{})
	h.reload()
	h.clock.Advance(maintainEvery)
	want("[OVER] dfw: dfw.lua:1 is broken | dfw.lua loads again, or was removed, after 1 min")
	if s, err = h.daemon.Status(t.Context()); err != nil || s.Playbooks[0].Error != nil || s.Playbooks[0].Bundle == "" {
		t.Errorf("status: %+v, %v", s, err)
	}
}
