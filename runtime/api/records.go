package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"moonseal/runtime/journal"
)

// Records is the readable part of the journal: the journal itself, or a daemon's view of it
// for users who may not open its file.
type Records interface {
	Run(ctx context.Context, id string) (journal.Run, error)
	Runs(ctx context.Context, f journal.Filter) ([]journal.Run, error)
	Logs(ctx context.Context, run string, after int64, limit int) ([]journal.Log, error)
	History(ctx context.Context, id string) (*journal.History, error)
	Undos(ctx context.Context, state journal.UndoState) ([]journal.Undo, error)
	Decisions(ctx context.Context, run string) ([]journal.Decided, error)
	Locks(ctx context.Context) ([]journal.Lock, error)
	Paused(ctx context.Context) (journal.Paused, error)
	// Horizon returns what retention has removed.
	Horizon(ctx context.Context) (journal.Horizon, error)
}

// mostRows bounds one answer.
const mostRows = 10_000

// records adds the routes of Records.
func (s *server) records(mux *http.ServeMux) {
	handle(mux, s, "GET /runs", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		q := r.URL.Query()
		return listed(s.daemon.Records().Runs(ctx, journal.Filter{
			Playbook: q.Get("playbook"), Status: journal.Status(q.Get("status")), Limit: limit(q),
		}))
	})
	handle(mux, s, "GET /runs/{run}", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return s.daemon.Records().Run(ctx, r.PathValue("run"))
	})
	handle(mux, s, "GET /runs/{run}/history", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return s.daemon.Records().History(ctx, r.PathValue("run"))
	})
	handle(mux, s, "GET /runs/{run}/logs", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		q := r.URL.Query()
		after, _ := strconv.ParseInt(q.Get("after"), 10, 64) // from the first line if it is malformed
		return listed(s.daemon.Records().Logs(ctx, r.PathValue("run"), after, limit(q)))
	})
	handle(mux, s, "GET /horizon", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return s.daemon.Records().Horizon(ctx)
	})
	handle(mux, s, "GET /runs/{run}/decisions", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return listed(s.daemon.Records().Decisions(ctx, r.PathValue("run")))
	})
	handle(mux, s, "GET /locks", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return listed(s.daemon.Records().Locks(ctx))
	})
	handle(mux, s, "GET /paused", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return s.daemon.Records().Paused(ctx)
	})
	handle(mux, s, "GET /undos", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return listed(s.daemon.Records().Undos(ctx, journal.UndoState(r.URL.Query().Get("state"))))
	})
}

func limit(q url.Values) int {
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 && n < mostRows {
		return n
	}
	return mostRows
}

// Records returns the daemon's view of the journal.
func (c *Client) Records() Records { return remote{c} }

type remote struct{ c *Client }

func (r remote) Run(ctx context.Context, id string) (journal.Run, error) {
	out, err := get[journal.Run](ctx, r.c, "/runs/"+url.PathEscape(id))
	if err != nil {
		return journal.Run{}, err
	}
	return *out, nil
}

func (r remote) Runs(ctx context.Context, f journal.Filter) ([]journal.Run, error) {
	q := url.Values{"playbook": {f.Playbook}, "status": {string(f.Status)}, "limit": {strconv.Itoa(f.Limit)}}
	return getAll[journal.Run](ctx, r.c, "/runs?"+q.Encode())
}

func (r remote) Logs(ctx context.Context, run string, after int64, limit int) ([]journal.Log, error) {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return getAll[journal.Log](ctx, r.c, "/runs/"+url.PathEscape(run)+"/logs?"+q.Encode())
}

func (r remote) History(ctx context.Context, id string) (*journal.History, error) {
	return get[journal.History](ctx, r.c, "/runs/"+url.PathEscape(id)+"/history")
}

func (r remote) Undos(ctx context.Context, state journal.UndoState) ([]journal.Undo, error) {
	return getAll[journal.Undo](ctx, r.c, "/undos?"+url.Values{"state": {string(state)}}.Encode())
}

func (r remote) Decisions(ctx context.Context, run string) ([]journal.Decided, error) {
	return getAll[journal.Decided](ctx, r.c, "/runs/"+url.PathEscape(run)+"/decisions")
}

func (r remote) Locks(ctx context.Context) ([]journal.Lock, error) {
	return getAll[journal.Lock](ctx, r.c, "/locks")
}

func (r remote) Paused(ctx context.Context) (journal.Paused, error) {
	p, err := get[journal.Paused](ctx, r.c, "/paused")
	if err != nil {
		return nil, err
	}
	return *p, nil
}

func (r remote) Horizon(ctx context.Context) (journal.Horizon, error) {
	h, err := get[journal.Horizon](ctx, r.c, "/horizon")
	if err != nil {
		return journal.Horizon{}, err
	}
	return *h, nil
}

func getAll[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	return all(get[[]T](ctx, c, path))
}
