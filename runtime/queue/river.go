package queue

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

const (
	// River need not look by itself: a grant that had no effect is made again.
	fetchPoll = time.Minute
	// insertTopic and insertNews are what River's producer listens for.
	insertTopic = "river_insert"
	insertNews  = `{"queue":"` + river.QueueDefault + `"}`
)

// newClient gives River on db, with the worker for all jobs. No leader is
// elected, so that none of its maintenance runs: see the package comment.
func newClient(db *sql.DB, l *listener, o *Options, w *worker) (*river.Client[*sql.Tx], error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, w); err != nil {
		return nil, err
	}
	return river.NewClient(&driver{Driver: riversqlite.New(db), listener: l}, &river.Config{
		// How many it is in truth the gate decides.
		Queues:                 map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: mostSlots}},
		Workers:                workers,
		JobTimeout:             -1,
		FetchCooldown:          river.FetchCooldownMin,
		FetchPollInterval:      fetchPoll,
		LeaderElectionDisabled: true,
		Logger:                 slog.New(quiet{o.Log.Handler()}),
	})
}

// driver is River's, but for the listener.
type driver struct {
	*riversqlite.Driver
	listener *listener
}

func (d *driver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return d.listener
}

// listener tells River in the process that there is something to fetch.
type listener struct{ news chan struct{} }

func newListener() *listener { return &listener{news: make(chan struct{}, 1)} }

// kick makes River fetch; kicks that it has not heard yet are one.
func (l *listener) kick() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case <-l.news:
		return &riverdriver.Notification{Topic: insertTopic, Payload: insertNews}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Close(context.Context) error            { return nil }
func (l *listener) Connect(context.Context) error          { return nil }
func (l *listener) Listen(context.Context, string) error   { return nil }
func (l *listener) Ping(context.Context) error             { return nil }
func (l *listener) Schema() string                         { return "" }
func (l *listener) SetAfterConnectExec(string)             {}
func (l *listener) Unlisten(context.Context, string) error { return nil }

// quiet passes on River's warnings and errors only: it counts jobs at Info.
type quiet struct{ slog.Handler }

func (h quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h quiet) WithAttrs(as []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(as)} }
func (h quiet) WithGroup(name string) slog.Handler    { return quiet{h.Handler.WithGroup(name)} }
