package daemon

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/problem"
	"moonseal/runtime/worker"
)

// Parts are what a config makes of the daemon. They are replaced as a whole: what
// starts, or continues, uses one set of them.
type Parts struct {
	Job      worker.Job // all that the config says but for the scripts
	Executor Executor   // a *worker.Parent, or a test's
	// Secret looks a secret up.
	Secret func(ctx context.Context, name string) api.SecretState
	// Send sends an alert; nil sends none.
	Send alert.Send
	// Beat sends the heartbeat to the monitor outside; may be nil.
	Beat func(ctx context.Context) error
	// Begin is called when the parts come into force; may be nil.
	Begin func()
}

// setup is a config with its parts.
type setup struct {
	Parts

	cfg *config.Config
}

// settings holds the config in force with its parts, and why the config's file is not in
// force.
type settings struct {
	build   func(*config.Config) (Parts, error)
	current atomic.Pointer[setup] // never nil once the daemon is open

	mu      sync.Mutex
	refused *problem.Error // nil: the file is in force
}

// now returns the config and its parts as they are in force.
func (s *settings) now() *setup { return s.current.Load() }

func (s *settings) config() *config.Config { return s.now().cfg }

// prepare makes the parts of a config.
func (s *settings) prepare(cfg *config.Config) (*setup, error) {
	p, err := s.build(cfg)
	return &setup{p, cfg}, err
}

// use puts a config with its parts into force.
func (s *settings) use(next *setup) {
	s.current.Store(next)
	if next.Begin != nil {
		next.Begin()
	}
}

// try returns a config's parts if they work: the scripts can be read, and a process
// under these limits can load an empty folder.
func (s *settings) try(ctx context.Context, cfg *config.Config) (*setup, error) {
	next, err := s.prepare(cfg)
	if err != nil {
		return nil, err
	}
	if old := s.config(); cfg.Scripts != old.Scripts || cfg.Hooks != old.Hooks {
		if _, err := bundle.ReadWith(cfg.Scripts, bundle.Reading{Hooks: cfg.Hooks}); err != nil {
			return nil, err
		}
	}
	job := next.Job
	job.Files = map[string]string{}
	if _, err := next.Executor.Load(ctx, job); err != nil {
		e := *problem.From(err)
		e.Message = "the new config does not work, the old one stays in force: " + e.Message
		e.Hint = cmp.Or(e.Hint, "a process without a script cannot start with it: are limits.memory or limits.files too small?")
		return nil, &e
	}
	return next, nil
}

// refuse records, for the status, why the config's file is not in force; nil: it is.
func (s *settings) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = problem.From(err)
}

func (s *settings) refusal() *problem.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}
