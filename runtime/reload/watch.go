package reload

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
)

// watch turns events of the file system into hints. It watches the folders of the
// tree, and those above it that hold a name which leads to it.
type watch struct {
	log       *slog.Logger
	notify    *fsnotify.Watcher // nil: there is none, and only rescans find changes
	hints     chan struct{}
	overflows atomic.Uint64
	listening sync.WaitGroup

	// Of the goroutine that reads the folder.
	round  int
	failed bool // it was logged that a folder cannot be watched

	mu      sync.Mutex // written by the goroutine that reads the folder, which reads them without it
	folders map[string]*watched
	above   map[string][]string // names that lead to the tree, by the folder that holds them
}

type watched struct {
	info  fs.FileInfo
	tree  bool
	round int // the last reading that met it
}

// newWatch starts to listen. If the system has no watches left, changes are found by
// rescans only.
func newWatch(log *slog.Logger) *watch {
	w := &watch{log: log, hints: make(chan struct{}, 1), folders: map[string]*watched{}}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.cannotWatch("the scripts folder", err)
		return w
	}
	w.notify = notify
	w.listening.Go(w.listen)
	return w
}

func (w *watch) cannotWatch(what string, err error) {
	w.log.Warn("cannot watch "+what+"; changes in it are found at the next rescan only", "error", err,
		"hint", "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances")
}

func (w *watch) close() {
	if w.notify != nil {
		_ = w.notify.Close() // which ends listen
	}
	w.listening.Wait()
}

// begin starts a reading of the folders: what leads to them is watched first.
func (w *watch) begin(folders ...string) {
	above := map[string][]string{}
	for _, folder := range folders {
		for at, names := range lookouts(folder) {
			above[at] = append(above[at], names...)
		}
	}
	w.round++
	w.mu.Lock()
	w.above = above
	w.mu.Unlock()
	for folder := range above {
		w.add(folder, false)
	}
}

// folder watches a folder of the tree; it is listed afterwards, so that nothing is
// missed in between.
func (w *watch) folder(path string) { w.add(path, true) }

func (w *watch) add(path string, tree bool) {
	if w.notify == nil {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		return // the reading that follows reports it
	}
	old := w.folders[path]
	if old != nil && !os.SameFile(old.info, info) {
		_ = w.notify.Remove(path) // the folder that was there may have moved elsewhere
	}
	// One that is watched already is added again: its watch ends with the folder,
	// and another may have the same name and inode.
	if err := w.notify.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !w.failed {
		w.failed = true
		w.cannotWatch(path, err)
	}
	if old != nil && old.round == w.round {
		tree = tree || old.tree
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.folders[path] = &watched{info, tree, w.round}
}

// end ends a reading: folders that it did not meet are no longer watched.
func (w *watch) end() {
	for path, f := range w.folders {
		if f.round == w.round {
			continue
		}
		_ = w.notify.Remove(path)
		w.mu.Lock()
		delete(w.folders, path)
		w.mu.Unlock()
	}
}

func (w *watch) listen() {
	for {
		select {
		case event, open := <-w.notify.Events:
			if !open {
				return
			}
			if w.matters(event) {
				w.hint()
			}
		case err, open := <-w.notify.Errors:
			if !open {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.overflows.Add(1)
			} else {
				w.log.Warn("watching the scripts folder", "error", err)
			}
			w.hint()
		}
	}
}

// hint reports that something may have changed. Pending hints are merged into one.
func (w *watch) hint() {
	select {
	case w.hints <- struct{}{}:
	default:
	}
}

// matters leaves out what cannot change the tree: the swap and backup files of
// editors, and what else happens in the folders above.
func (w *watch) matters(event fsnotify.Event) bool {
	folder, name := filepath.Dir(event.Name), filepath.Base(event.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.folders[event.Name] != nil || slices.Contains(w.above[folder], name) {
		return true
	}
	if f := w.folders[folder]; f == nil || !f.tree {
		return false
	}
	if strings.HasPrefix(name, ".") {
		return strings.HasPrefix(name, "..") // Kubernetes' ..data
	}
	return strings.HasSuffix(name, ".lua") || event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)
}

// lookouts returns the names that lead to dir, by the folders that hold them: its
// own, those of links on the way, and the first that is missing. When one of these is
// created, removed or moved, dir is another folder.
func lookouts(dir string) map[string][]string {
	const mostLinks = 40
	out := map[string][]string{}
	at, rest := "/", split(dir)
	for links := 0; len(rest) > 0 && links < mostLinks; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		path := filepath.Join(at, name)
		info, err := os.Lstat(path)
		link := err == nil && info.Mode()&fs.ModeSymlink != 0
		if link || err != nil || len(rest) == 0 {
			out[at] = append(out[at], name)
		}
		switch {
		case err != nil:
			return out
		case !link:
			at = path
			continue
		}
		links++
		target, err := os.Readlink(path)
		if err != nil {
			return out
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(split(target), rest...)
	}
	return out
}

// split returns the parts of a path; ".." stays, since the part before it may be a link.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
}
