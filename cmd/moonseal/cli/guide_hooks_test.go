package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The hooks that scripts/README.md shows see a run that fails, one that is cancelled and one that is done.
func TestHooksOfTheGuide(t *testing.T) {
	guide := read(t, filepath.Join(root, "scripts", "README.md"))
	block := regexp.MustCompile("(?s)```lua\n(-- scripts/hooks/all.lua\n.*?)```").FindStringSubmatch(guide)
	if block == nil {
		t.Fatal("scripts/README.md shows no hooks")
	}
	o := newSeededSite(t)
	o.check(os.MkdirAll(filepath.Join(o.dir, "scripts", "hooks"), 0o700))
	o.check(os.WriteFile(filepath.Join(o.dir, "scripts", "hooks", "all.lua"), []byte(block[1]), 0o600))
	playbook := func(name, body string) {
		o.check(os.WriteFile(filepath.Join(o.dir, "scripts", name+".lua"), []byte("return playbook { run = function(ctx) "+body+" end }"), 0o600))
	}
	playbook("fails", `ctx:step("one", function() error "it broke" end)`)
	playbook("works", `ctx:step("one", function() return 1 end)`)
	playbook("stops", `ctx:sleep "1h"`)
	for _, c := range []struct {
		line string
		code int
		want []string
	}{
		{"run fails", exitFailed, []string{"error: failed  playbook=fails  why=it broke", "info: ended  playbook=fails  status=failed"}},
		{"run works", exitDone, []string{"info: ended  playbook=works  status=done"}},
		{"run stops", exitWaiting, nil},
	} {
		code, said := o.types(c.line)
		if code != c.code || strings.Contains(said, "hook failed") {
			t.Errorf("moonseal %s: exit code %d, said\n%s", c.line, code, said)
		}
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("moonseal %s lacks %q:\n%s", c.line, want, said)
			}
		}
		o.runs["stops"], _, _ = strings.Cut(strings.TrimPrefix(said, "stops: run "), "\n")
	}
	if code, said := o.types("cancel =stops"); code != exitDone {
		t.Errorf("cancel: exit code %d, said %s", code, said)
	}
	if _, said := o.types("logs =stops"); !strings.Contains(said, "failed  playbook=stops  why=cancelled") || !strings.Contains(said, "ended  playbook=stops  status=cancelled") {
		t.Errorf("logs: %s", said)
	}
}
