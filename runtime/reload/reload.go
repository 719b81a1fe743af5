package reload

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// Options of a [Reloader]. Dir and Load are needed.
type Options struct {
	Dir   string          // the folder of scripts; it may be a link, and need not exist yet
	Hooks string          // the folder used as its hooks/; "" for none
	Clock clockwork.Clock // nil is the real one
	Log   *slog.Logger    // nil is slog.Default

	// Load loads the scripts among files, which are some of the folder's with all
	// that these can require, by their paths in it. It runs Lua, so it does that in
	// a process that may die of it: an error is about all the files, and makes the
	// Reloader search for the script that causes it. Calls do not overlap, and end
	// with ctx.
	Load func(ctx context.Context, files map[string]string) (*Loaded, error)

	// Last returns the sources that the playbooks of a script were last loaded well
	// from, by path; nil if that is not known. It is called once for a script that is
	// broken and has no good version, as after a restart. May be nil.
	Last func(ctx context.Context, file string) map[string]string

	// Apply is called with each new snapshot after it is live, and with the one before;
	// it is called by one goroutine and must not wait for the Reloader. May be nil.
	Apply func(before, now *Snapshot)

	Debounce time.Duration // how long no event may come before a change is read; 0 is 100 ms
	MaxDelay time.Duration // how long further events may put that off; 0 is 1 s
	Rescan   time.Duration // how often to compare the folder without an event; 0 is 30 s
}

// Reloader keeps a folder's playbooks current. Make one with [New].
type Reloader struct {
	options Options
	clock   clockwork.Clock
	log     *slog.Logger
	rest    time.Duration // what changed less than this ago may be half done
	current atomic.Pointer[Snapshot]
	asked   chan request
	done    chan struct{} // closed by Close
	close   sync.Once
	cancel  context.CancelFunc
	running sync.WaitGroup
	stats   struct{ looks, reloads, broken atomic.Uint64 }
	watch   *watch

	// What follows belongs to the goroutine that reads the folder.
	cache    *cache
	verified time.Time // when every file was last read
	scripts  map[string]*script
	libs     map[string]*library
	gone     map[string]time.Time // files that were loaded and are not there, since when
	left     []*problem.Error     // files that could not be read
	failed   *problem.Error       // the folder as a whole
	root     root                 // the folder that was last loaded from
	logged   map[string]logged    // problems
}

// request asks for a reload now.
type request struct {
	folders *Folders // others than before; nil for the same
	all     bool     // load what has not changed too
	answers chan<- answer
}

type answer struct {
	snapshot *Snapshot
	err      error
}

// New returns a Reloader that does nothing yet.
func New(o Options) *Reloader {
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	for field, preset := range map[*time.Duration]time.Duration{&o.Debounce: 100 * time.Millisecond, &o.MaxDelay: time.Second, &o.Rescan: 30 * time.Second} {
		if *field == 0 {
			*field = preset
		}
	}
	if abs, err := (Folders{o.Dir, o.Hooks}).absolute(); err == nil {
		o.Dir, o.Hooks = abs.Scripts, abs.Hooks
	}
	r := &Reloader{
		options: o, clock: o.Clock, log: o.Log, asked: make(chan request), done: make(chan struct{}),
		// The timer of Debounce fires a little later, a file's time may be a little earlier.
		rest:    o.Debounce * 3 / 4,
		scripts: map[string]*script{}, libs: map[string]*library{},
	}
	r.cache = newCache(r.clock, r.rest)
	r.current.Store(newSnapshot(nil, nil))
	return r
}

// Current is what is live; never nil.
func (r *Reloader) Current() *Snapshot { return r.current.Load() }

// Start reads the folder, and keeps watching it until [Reloader.Close]. A folder
// that cannot be used is a problem of the snapshot; the error is that of ctx, which
// bounds the first reading only.
func (r *Reloader) Start(ctx context.Context) error {
	r.watch = newWatch(r.log)
	if err := r.reloadNow(ctx, request{}); err != nil && ctx.Err() != nil {
		r.watch.close()
		return context.Cause(ctx)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.running.Go(func() { r.run(running) })
	return nil
}

// Close ends the watching, and waits for it. The last snapshot stays.
func (r *Reloader) Close() {
	r.close.Do(func() { close(r.done) })
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.running.Wait()
	r.watch.close()
}

// ErrClosed is the error of a Reload after Close.
var ErrClosed = errors.New("the scripts are not watched any more")

// Reload reads all files now, retries the broken ones, and returns the resulting
// snapshot. It fails if nothing could be read or loaded at all; problems of single
// scripts are in the snapshot.
func (r *Reloader) Reload(ctx context.Context) (*Snapshot, error) {
	return r.ask(ctx, request{})
}

// Folders are where scripts are; see [Options].
type Folders struct{ Scripts, Hooks string }

func (f Folders) absolute() (Folders, error) {
	for _, p := range []*string{&f.Scripts, &f.Hooks} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return f, err
		}
		*p = abs
	}
	return f, nil
}

// Renew is Reload for all scripts, changed or not, and from these folders from now
// on: after a change of what scripts may do, or of where they are.
func (r *Reloader) Renew(ctx context.Context, folders Folders) (*Snapshot, error) {
	folders, err := folders.absolute()
	if err != nil {
		return nil, err
	}
	return r.ask(ctx, request{folders: &folders, all: true})
}

func (r *Reloader) ask(ctx context.Context, q request) (*Snapshot, error) {
	answers := make(chan answer, 1)
	q.answers = answers
	select {
	case r.asked <- q:
	case <-r.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case a := <-answers:
		return a.snapshot, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Stats count since the start.
type Stats struct {
	Looks     uint64 // times that the folder was compared
	Reloads   uint64 // times that something was loaded
	Broken    uint64 // problems that were logged: one for each text of a file
	Overflows uint64 // times that the system dropped events
}

// Stats returns the counters as they are now.
func (r *Reloader) Stats() Stats {
	s := Stats{Looks: r.stats.looks.Load(), Reloads: r.stats.reloads.Load(), Broken: r.stats.broken.Load()}
	if r.watch != nil {
		s.Overflows = r.watch.overflows.Load()
	}
	return s
}

func (r *Reloader) run(ctx context.Context) {
	rescan := r.clock.NewTicker(r.options.Rescan)
	defer rescan.Stop()
	wait := &debounce{clock: r.clock, delay: r.options.Debounce, maxDelay: r.options.MaxDelay}
	defer wait.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.watch.hints:
			wait.trigger()
		case <-wait.elapsed():
			if complete, _ := r.reloadChanges(ctx, wait.overdue()); complete {
				wait.stop()
			} else {
				wait.restart()
			}
		case <-rescan.Chan():
			if r.rescan() {
				wait.trigger()
			}
		case q := <-r.asked:
			err := r.reloadNow(ctx, q)
			q.answers <- answer{r.Current(), err}
		}
	}
}

// reloadChanges loads what has changed. While a file may be half done it loads nothing,
// or, if overdue, all but that file. It reports whether all changes were loaded.
func (r *Reloader) reloadChanges(ctx context.Context, overdue bool) (complete bool, err error) {
	tree, err := r.read()
	if err != nil {
		r.fail(err)
		return true, err
	}
	d := r.compare(tree, false)
	if d.waiting && !overdue {
		return false, nil
	}
	return !d.waiting, r.update(ctx, tree, d)
}

// reloadNow reads all files and loads the folder as it is, broken scripts included.
func (r *Reloader) reloadNow(ctx context.Context, q request) error {
	if q.folders != nil {
		if q.folders.Scripts != r.options.Dir {
			r.root = root{}
		}
		r.options.Dir, r.options.Hooks = q.folders.Scripts, q.folders.Hooks
	}
	r.verify()
	tree, err := r.read()
	if err != nil {
		r.fail(err)
		return err
	}
	d := r.compare(tree, true)
	if q.all {
		d.scripts = scriptsOf(tree)
	}
	d.scripts = union(d.scripts, r.broken(tree, d.scripts))
	return r.update(ctx, tree, d)
}

// verifyEvery is how many rescans trust the size and times of the files before one
// reads them all.
const verifyEvery = 20

// rescan reports whether the folder differs from what was loaded.
func (r *Reloader) rescan() bool {
	if r.clock.Since(r.verified) > verifyEvery*r.options.Rescan {
		r.verify()
	}
	tree, err := r.read()
	if err != nil {
		r.fail(err)
		return false
	}
	return r.failed != nil || !r.compare(tree, false).empty() || !sameProblems(r.left, tree.Problems)
}

// verify makes the next reading of the folder read all files.
func (r *Reloader) verify() {
	r.verified = r.clock.Now()
	r.cache.distrust()
}

// read returns the tree of files, and watches its folders.
func (r *Reloader) read() (*bundle.Tree, error) {
	r.stats.looks.Add(1)
	r.watch.begin(r.options.Dir, r.options.Hooks)
	r.cache.begin()
	tree, err := bundle.ReadWith(r.options.Dir, bundle.Reading{Hooks: r.options.Hooks, Folder: r.watch.folder, Known: r.cache.known, Read: r.cache.read})
	if err != nil {
		return nil, err
	}
	r.watch.end()
	root, err := rootOf(tree.Dir)
	if err != nil {
		return nil, err
	}
	if len(tree.Files) == 0 && len(r.scripts) > 0 && r.root != root {
		return nil, &problem.Error{
			Kind: problem.NotFound, Target: r.options.Dir, Message: "is another folder than before, and empty",
			Hint: "if that is meant, put a script into it; if it is a volume, mount it",
		}
	}
	r.root = root
	r.cache.end()
	return tree, nil
}

// update loads the difference and makes it live.
func (r *Reloader) update(ctx context.Context, tree *bundle.Tree, d *difference) error {
	start := r.clock.Now()
	loads := len(d.scripts) > 0 || len(d.libs) > 0
	if err := r.load(ctx, tree, d); err != nil {
		if ctx.Err() == nil {
			r.fail(err)
		}
		return err
	}
	if r.failed != nil {
		r.log.Info("the scripts folder can be used again", "folder", r.options.Dir)
	}
	r.left, r.failed = tree.Problems, nil
	if loads {
		r.stats.reloads.Add(1)
	}
	r.publish(start)
	return nil
}

// fail keeps all that is live, and publishes why.
func (r *Reloader) fail(err error) {
	e := *problem.From(err)
	r.failed = &e
	r.publish(r.clock.Now())
}
