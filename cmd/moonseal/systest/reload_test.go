package systest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// reloads is several writers that save scripts of a daemon, and runs that are under way.
type reloads struct {
	*site

	d     *daemon
	saves int           // of each writer
	pace  time.Duration // between two saves of one writer

	mu   sync.Mutex
	last map[string]int // by playbook: the version that was saved last and is whole
	runs []string       // those that have ended
}

const (
	writers     = 4
	scriptsEach = 3 // of each writer
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

// TestReloadsWhileRunsAreUnderWay lets several writers save, every tenth time something
// broken, while runs are under way: each run is of one version of each file, as it
// was saved whole, and in the end the last good versions are live. With
// MOONSEAL_TEST=full there are 10,000 saves over a minute.
func TestReloadsWhileRunsAreUnderWay(t *testing.T) {
	t.Parallel()
	x := &reloads{site: newSite(t, "log: { level: warn }\n"), saves: 60, pace: 10 * time.Millisecond, last: map[string]int{}}
	if full() {
		x.saves, x.pace = 10000/writers, time.Minute/(10000/writers)
	}
	x.check(os.MkdirAll(filepath.Join(x.dir, "scripts", "lib"), 0o755))
	for writer := range writers {
		x.library(writer, 0)
		for n := range scriptsEach {
			x.script(x.playbook(writer, n), versioned(writer, 0))
		}
	}
	x.d = x.serve()
	before, files := x.resident(), x.openFiles()
	var writing, running sync.WaitGroup
	var enough atomic.Bool
	for writer := range writers {
		writing.Go(func() { x.write(writer) })
	}
	running.Go(func() {
		for n := 0; !enough.Load(); n++ {
			x.one(x.playbook(n%writers, n%scriptsEach))
		}
	})
	writing.Wait()
	enough.Store(true)
	running.Wait()
	x.check(x.d.call(http.MethodPost, "/reload", struct{}{}, nil))
	for name := range x.last {
		x.one(name)
	}
	x.sound()
	if after := x.resident(); after > before+32<<20 {
		t.Errorf("the daemon has %d MB, %d before", after>>20, before>>20)
	}
	x.until("no more files are open than before", func() bool { return x.openFiles() <= files+4 })
	x.d.signal(syscall.SIGTERM)
	if code := x.d.wait(); code != exitDone || strings.Contains(x.d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, x.d.out.String())
	}
}

func (x *reloads) playbook(writer, n int) string { return fmt.Sprintf("w%ds%d", writer, n) }

func (x *reloads) library(writer, version int) {
	text := fmt.Sprintf("-- %d\nreturn { version = %d } -- %d", version, version, version)
	x.atomically(filepath.Join("lib", fmt.Sprintf("l%d.lua", writer)), text)
}

func (x *reloads) atomically(name, text string) {
	path := filepath.Join(x.dir, "scripts", name)
	x.note(os.WriteFile(path+".tmp", []byte(text), 0o600))
	x.note(os.Rename(path+".tmp", path))
}

func (x *reloads) note(err error) {
	if err != nil {
		x.t.Error(err)
	}
}

// write is one writer. What it saves last of each script is whole.
func (x *reloads) write(writer int) {
	ticks := time.NewTicker(x.pace)
	defer ticks.Stop()
	for version := 1; version <= x.saves+scriptsEach; version++ {
		name := x.playbook(writer, version%scriptsEach)
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

// one runs the playbook, to its end.
func (x *reloads) one(name string) {
	id := x.d.begin(name)
	x.d.is(id, "done")
	x.runs = append(x.runs, id)
}

// sound checks what each run has seen against the sources that it was pinned to, and
// the newest run of each playbook against what was saved last.
func (x *reloads) sound() {
	x.t.Helper()
	j := x.journal()
	defer j.close()
	newest := map[string]int{}
	for _, id := range x.runs {
		r := j.run(id)
		var seen struct{ Script, Lib int }
		x.check(json.Unmarshal(j.steps(id)[0].Result, &seen))
		sources := j.sources(r.Bundle)
		for path, text := range sources {
			version := seen.Lib
			if path == r.Playbook+".lua" {
				version = seen.Script
			}
			mark := fmt.Sprintf("-- %d", version)
			if !strings.HasPrefix(text, mark+"\n") || !strings.HasSuffix(text, mark) {
				x.t.Errorf("run %s of %s has seen version %d of %s, which is\n%s", id, r.Playbook, version, path, text)
			}
		}
		if len(sources) != 2 {
			x.t.Errorf("run %s has %d sources", id, len(sources))
		}
		if seen.Script < newest[r.Playbook] {
			x.t.Errorf("%s went from version %d back to %d", r.Playbook, newest[r.Playbook], seen.Script)
		}
		newest[r.Playbook] = seen.Script
	}
	for name, version := range x.last {
		if newest[name] != version {
			x.t.Errorf("%s is live in version %d, and was saved last in %d", name, newest[name], version)
		}
	}
	x.t.Logf("%d runs, %d saves", len(x.runs), writers*(x.saves+scriptsEach))
}

// resident returns the daemon's memory in bytes.
func (x *reloads) resident() int {
	x.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", x.d.cmd.Process.Pid))
	x.check(err)
	var size, resident int
	_, err = fmt.Sscan(string(text), &size, &resident)
	x.check(err)
	return resident * os.Getpagesize()
}

// openFiles counts the daemon's open files.
func (x *reloads) openFiles() int {
	x.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", x.d.cmd.Process.Pid))
	x.check(err)
	return len(list)
}
