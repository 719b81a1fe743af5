package reload_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/bundle"
	"moonseal/runtime/reload"
)

// The scripts of the torture test say their version at both ends, so that a half
// of one and a half of another cannot be taken for a whole.
func versioned(version int, lib string) string {
	return fmt.Sprintf("-- %d\nrequire %q\nreturn playbook { schedule = \"%d\", run = function() end } -- %d", version, lib, version, version)
}

func versionedLibrary(version int) string {
	return fmt.Sprintf("-- %d\nreturn { version = %d } -- %d", version, version, version)
}

// torture is several writers that save, and several readers that look.
type torture struct {
	*world

	scripts, saves int           // of each writer
	pace           time.Duration // between two saves of one writer
	last           sync.Map
}

// write is one writer: every tenth save is broken, until the last ones.
func (x *torture) write(writer int) error {
	ticks := time.NewTicker(x.pace)
	defer ticks.Stop()
	for version := 1; version <= x.saves+x.scripts; version++ {
		name := fmt.Sprintf("w%d/s%d.lua", writer, version%x.scripts)
		text := versioned(version, fmt.Sprintf("lib.l%d", writer))
		if version%10 == 0 && version <= x.saves {
			text = text[:len(text)/2]
		} else {
			x.last.Store(name, strconv.Itoa(version))
		}
		var err error
		switch version % 4 {
		case 0:
			err = os.WriteFile(x.path(name), []byte(text), 0o600)
		case 1:
			err = x.slowly(name, text, ticks.C)
		default:
			err = x.atomically(name, text)
		}
		if err == nil && version%25 == 0 {
			err = x.atomically(fmt.Sprintf("lib/l%d.lua", writer), versionedLibrary(version))
		}
		if err != nil {
			return err
		}
		<-ticks.C
	}
	return nil
}

// slowly writes a file in two halves.
func (x *torture) slowly(name, text string, pause <-chan time.Time) error {
	f, err := os.Create(x.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text[:len(text)/2]); err != nil {
		return err
	}
	<-pause
	_, err = f.WriteString(text[len(text)/2:])
	return err
}

func (x *torture) atomically(name, text string) error {
	if err := os.WriteFile(x.path(name)+".tmp", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(x.path(name)+".tmp", x.path(name))
}

// read looks at snapshots until ctx ends: nothing is missing, nothing is mixed,
// nothing goes back to what it was.
func (x *torture) read(ctx context.Context, playbooks int) error {
	seen := map[string]int{}
	for n := 0; ctx.Err() == nil; n++ {
		s := x.r.Current()
		if len(s.Playbooks) != playbooks {
			return fmt.Errorf("%d of %d playbooks", len(s.Playbooks), playbooks)
		}
		for _, p := range s.Playbooks {
			var version int
			if _, err := fmt.Sscan(p.Schedule.(string), &version); err != nil {
				return err
			}
			if version < seen[p.Name] {
				return fmt.Errorf("%s went from %d to %d", p.Name, seen[p.Name], version)
			}
			seen[p.Name] = version
			if err := whole(p); err != nil {
				return err
			}
		}
		p := s.Playbooks[n%playbooks]
		again, err := bundle.FromSources(context.Background(), p.Files(), bundle.Env{})
		if err != nil {
			return err
		}
		if q := again.Find(p.Name); q == nil || q.Hash != p.Hash || q.Schedule != p.Schedule {
			return fmt.Errorf("%s is not what its sources say", p.Name)
		}
	}
	return nil
}

// whole checks that each source of p is one version, and the script's is p's.
func whole(p *reload.Playbook) error {
	for _, src := range p.Sources {
		lines := strings.Split(src.Text, "\n")
		first := lines[0]
		if !strings.HasSuffix(lines[len(lines)-1], " "+first) {
			return fmt.Errorf("%s: %q is no whole", p.Name, src.Text)
		}
		if src.Path == p.File && first != fmt.Sprintf("-- %v", p.Schedule) {
			return fmt.Errorf("%s at %v has the source of %s", p.Name, p.Schedule, first)
		}
	}
	if len(p.Sources) != 2 {
		return fmt.Errorf("%s has %d sources", p.Name, len(p.Sources))
	}
	return nil
}

// TestTorture saves 2,000 times, every tenth time something broken, as fast as it
// can. With MOONSEAL_TEST=full it does so 10,000 times over a minute.
func TestTorture(t *testing.T) {
	const writers, readers = 4, 2
	goroutines := runtime.NumGoroutine()
	x := &torture{world: newWorld(t, nil), scripts: 15, saves: 500, pace: time.Millisecond}
	if os.Getenv("MOONSEAL_TEST") == "full" {
		x.saves = 10000/writers - x.scripts
		x.pace = 45 * time.Second / (10000 / writers) // every fourth takes two of it
	}
	for w := range writers {
		x.put(fmt.Sprintf("lib/l%d.lua", w), versionedLibrary(0))
		for s := range x.scripts {
			x.put(fmt.Sprintf("w%d/s%d.lua", w, s), versioned(0, fmt.Sprintf("lib.l%d", w)))
		}
	}
	x.start(func(o *reload.Options) {
		o.Apply, o.Debounce, o.MaxDelay = nil, 30*time.Millisecond, 150*time.Millisecond
	})
	before := heap()
	reading, enough := context.WithCancel(t.Context())
	defer enough()
	errs := make(chan error, writers+readers)
	var writing, looking sync.WaitGroup
	for range readers {
		looking.Go(func() { errs <- x.read(reading, writers*x.scripts) })
	}
	for w := range writers {
		writing.Go(func() { errs <- x.write(w) })
	}
	writing.Wait()
	s := x.now()
	enough()
	looking.Wait()
	for range writers + readers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	x.last.Range(func(file, version any) bool {
		x.wantSchedule(s, strings.TrimSuffix(file.(string), filepath.Ext(file.(string))), version.(string))
		return true
	})
	stats := x.r.Stats()
	if len(s.Problems) > 0 || stats.Reloads < 3 {
		t.Errorf("%s, %+v", show(s), stats)
	}
	t.Logf("%+v", stats)
	x.r.Close()
	wantGoroutines(t, goroutines)
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes on the heap, %d before", after, before)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
