package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
)

// torture is several writers that save scripts of a daemon, and runs that are under way.
type torture struct {
	*world

	d     *served
	saves int           // of each writer
	pace  time.Duration // between two saves of one writer

	mu   sync.Mutex
	last map[string]int // by playbook: the version that was saved last and is whole
	runs []string       // those that have ended
}

const (
	tortureWriters = 4
	tortureScripts = 3 // of each writer
)

// versioned is a script that says its version at both ends, and in its run that of
// its library too.
func versioned(writer, version int) string {
	return fmt.Sprintf(`-- %d
local lib = require "lib.l%d"
return playbook { run = function(ctx)
  ctx:step("seen", function() return { script = %d, lib = lib.version } end)
end } -- %d`, version, writer, version, version)
}

// TestServeReloadTorture lets several writers save, every tenth time something
// broken, while runs are under way: each run is of one version of each file, as a person
// saved it whole, and in the end the last good versions are live. With
// MOONSEAL_TEST=full there are 10,000 saves over a minute.
func TestServeReloadTorture(t *testing.T) {
	t.Parallel()
	x := &torture{world: &world{t: t, dir: t.TempDir(), env: map[string]string{}}, saves: 60, pace: 10 * time.Millisecond, last: map[string]int{}}
	if full() {
		x.saves, x.pace = 10000/tortureWriters, time.Minute/(10000/tortureWriters)
	}
	x.check(os.MkdirAll(filepath.Join(x.dir, "scripts", "lib"), 0o755))
	x.check(os.WriteFile(x.config(), []byte("state: state\nscripts: scripts\nlog: { level: warn }\n"), 0o600))
	for writer := range tortureWriters {
		x.library(writer, 0)
		for n := range tortureScripts {
			x.script(x.playbook(writer, n), versioned(writer, 0))
		}
	}
	x.d = x.serve()
	before, files := x.resident(), x.openFiles()
	var writing, running sync.WaitGroup
	var enough atomic.Bool
	for writer := range tortureWriters {
		writing.Go(func() { x.write(writer) })
	}
	running.Go(func() {
		for n := 0; !enough.Load(); n++ {
			x.one(x.playbook(n%tortureWriters, n%tortureScripts))
		}
	})
	writing.Wait()
	enough.Store(true)
	running.Wait()
	_, err := x.d.api.Reload(t.Context())
	x.check(err)
	for name := range x.last {
		x.one(name)
	}
	x.sound()
	if after := x.resident(); after > before+32<<20 {
		t.Errorf("the daemon has %d MB, %d before", after>>20, before>>20)
	}
	x.until("no more files are open than before", func() bool { return x.openFiles() <= files+4 })
	x.check(x.d.cmd.Process.Signal(syscall.SIGTERM))
	if code := x.d.process.wait(); code != exitDone || strings.Contains(x.d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, x.d.out.String())
	}
}

func (x *torture) playbook(writer, n int) string { return fmt.Sprintf("w%ds%d", writer, n) }

func (x *torture) library(writer, version int) {
	text := fmt.Sprintf("-- %d\nreturn { version = %d } -- %d", version, version, version)
	x.atomically(filepath.Join("lib", fmt.Sprintf("l%d.lua", writer)), text)
}

func (x *torture) atomically(name, text string) {
	path := filepath.Join(x.dir, "scripts", name)
	x.note(os.WriteFile(path+".tmp", []byte(text), 0o600))
	x.note(os.Rename(path+".tmp", path))
}

func (x *torture) note(err error) {
	if err != nil {
		x.t.Error(err)
	}
}

// write is one writer. What it saves last of each script is whole.
func (x *torture) write(writer int) {
	ticks := time.NewTicker(x.pace)
	defer ticks.Stop()
	for version := 1; version <= x.saves+tortureScripts; version++ {
		name := x.playbook(writer, version%tortureScripts)
		text := versioned(writer, version)
		broken := version%10 == 0 && version <= x.saves
		if broken {
			text = text[:len(text)/2]
		}
		if version%4 == 0 {
			x.note(os.WriteFile(filepath.Join(x.dir, "scripts", name+".lua"), []byte(text), 0o600))
		} else {
			x.atomically(name+".lua", text)
		}
		if version%25 == 0 {
			x.library(writer, version)
		}
		if !broken {
			x.mu.Lock()
			x.last[name] = version
			x.mu.Unlock()
		}
		<-ticks.C
	}
}

// one runs the playbook.
func (x *torture) one(name string) {
	r, err := x.d.api.Run(x.t.Context(), api.RunRequest{Playbook: name})
	if err != nil {
		x.t.Errorf("%s: %v", name, err)
		return
	}
	run, err := x.d.api.Follow(x.t.Context(), r.ID, func(journal.Record) {})
	if err != nil || run.Status != journal.Done {
		x.t.Errorf("run %s of %s: %+v, %v", r.ID, name, run, err)
		return
	}
	x.runs = append(x.runs, r.ID)
}

// sound checks what each run has seen against the sources that it was pinned to, and
// the newest run of each playbook against what was saved last.
func (x *torture) sound() {
	x.t.Helper()
	j, err := journal.OpenReadOnly(x.t.Context(), x.d.state)
	x.check(err)
	defer func() { x.check(j.Close()) }()
	newest := map[string]int{}
	for _, id := range x.runs {
		h, err := j.History(x.t.Context(), id)
		x.check(err)
		var seen struct{ Script, Lib int }
		x.check(json.Unmarshal(h.Steps[0].Result, &seen))
		sources, err := j.Sources(x.t.Context(), h.Run.Bundle)
		x.check(err)
		for _, s := range sources {
			version := seen.Lib
			if s.Path == h.Run.Playbook+".lua" {
				version = seen.Script
			}
			text, mark := string(s.Body), fmt.Sprintf("-- %d", version)
			if !strings.HasPrefix(text, mark+"\n") || !strings.HasSuffix(text, mark) {
				x.t.Errorf("run %s of %s has seen version %d of %s, which is\n%s", id, h.Run.Playbook, version, s.Path, text)
			}
		}
		if len(sources) != 2 {
			x.t.Errorf("run %s has %d sources", id, len(sources))
		}
		if seen.Script < newest[h.Run.Playbook] {
			x.t.Errorf("%s went from version %d back to %d", h.Run.Playbook, newest[h.Run.Playbook], seen.Script)
		}
		newest[h.Run.Playbook] = seen.Script
	}
	for name, version := range x.last {
		if newest[name] != version {
			x.t.Errorf("%s is live in version %d, and was saved last in %d", name, newest[name], version)
		}
	}
	x.t.Logf("%d runs, %d saves", len(x.runs), tortureWriters*(x.saves+tortureScripts))
}

// resident returns the daemon's memory in bytes.
func (x *torture) resident() int {
	x.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", x.d.cmd.Process.Pid))
	x.check(err)
	var size, resident int
	_, err = fmt.Sscan(string(text), &size, &resident)
	x.check(err)
	return resident * os.Getpagesize()
}

// openFiles counts the daemon's open files.
func (x *torture) openFiles() int {
	x.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", x.d.cmd.Process.Pid))
	x.check(err)
	return len(list)
}
