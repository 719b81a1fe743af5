package journal

import (
	"errors"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"

	"moonseal/runtime/problem"
)

// fault is the part of a batch that could not be applied.
type fault struct {
	r     *request // nil: none of it, the commit itself failed
	at    int      // index into r's lazy records and then its others
	began bool     // false: the transaction did not begin
	err   error
}

// commit writes batch in one transaction and answers every waiting caller. Invalid records
// are removed and the rest is written without them; if the disk fails, each request is
// tried alone, so that a small one succeeds when a large one does not fit. It returns the
// lazy records to retry.
func (w *writer) commit(batch []*request) (again []*request) {
	for len(batch) > 0 {
		f := w.transact(batch)
		if f == nil {
			w.succeed(batch)
			return again
		}
		if f.r != nil && refused(f.err) {
			batch = w.without(batch, f)
			continue
		}
		w.setLast(f.err)
		if len(batch) > 1 && f.began {
			for _, r := range batch {
				again = append(again, w.commit([]*request{r})...)
			}
			return again
		}
		for _, r := range batch {
			if len(r.lazy) > 0 {
				again = append(again, &request{run: r.run, epoch: r.epoch, lazy: r.lazy})
			}
			if r.done != nil {
				r.done <- f.err
			}
		}
		return again
	}
	return again
}

func (w *writer) succeed(batch []*request) {
	w.setLast(nil)
	if w.unsynced(batch) {
		w.quiet.Add(1)
	} else {
		w.commits.Add(1)
	}
	for _, r := range batch {
		n := len(r.recs) + len(r.lazy)
		if r.err != nil {
			w.refused.Add(int64(max(n, 1)))
			w.complain(r, r.err)
		} else {
			w.records.Add(int64(n))
		}
		if r.done != nil {
			r.done <- r.err
		}
	}
}

// without returns batch without what f names: a lazy record alone, else the whole
// request but for its lazy records.
func (w *writer) without(batch []*request, f *fault) []*request {
	w.refused.Add(1)
	r := f.r
	if f.at < len(r.lazy) {
		w.complain(r, f.err)
		r.lazy = slices.Delete(slices.Clone(r.lazy), f.at, f.at+1)
		if len(r.lazy) > 0 || r.done != nil {
			return batch
		}
	}
	if r.done != nil {
		r.done <- f.err
		r.done, r.recs, r.fn = nil, nil, nil
	}
	return slices.DeleteFunc(batch, func(q *request) bool { return q == r && len(r.lazy) == 0 })
}

// complain logs that a lazy record was refused: no caller waits for it.
func (w *writer) complain(r *request, err error) {
	if len(r.lazy) > 0 {
		w.log.Error("a record was refused", "run", r.run, "epoch", r.epoch, "error", err)
	}
}

func (w *writer) setLast(err error) {
	w.mu.Lock()
	w.last = err
	w.mu.Unlock()
}

// transact writes batch, all of it but what is stale, or nothing.
func (w *writer) transact(batch []*request) *fault {
	if w.conn == nil {
		c, err := openConn(w.ctx, w.path, w.steps, Options{})
		if err != nil {
			return &fault{err: storeError(w.path, err)}
		}
		c.work, c.last, w.conn = w.work, w.part, c
	}
	if w.unsynced(batch) {
		defer w.syncAgain()
		if err := w.conn.synced(false); err != nil {
			return w.abort(&fault{err: err})
		}
	}
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return w.abort(&fault{err: err})
	}
	for _, r := range batch {
		if at, err := w.conn.applyRequest(r); err != nil {
			return w.abort(&fault{r: r, at: at, began: true, err: err})
		}
	}
	if _, err := w.conn.exec("COMMIT"); err != nil {
		return w.abort(&fault{began: true, err: err})
	}
	return nil
}

// unsynced reports whether no caller waits for anything in batch: it is written so that
// others can read it, and synced with the next commit that a caller waits for.
func (w *writer) unsynced(batch []*request) bool {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	return !closed && !slices.ContainsFunc(batch, func(r *request) bool { return r.done != nil })
}

// syncAgain makes the next commit sync, with all that was written before it.
func (w *writer) syncAgain() {
	if w.conn == nil {
		return // the next connection syncs
	}
	if err := w.conn.synced(true); err != nil {
		w.log.Error("reopening the journal's connection: it cannot be made to sync", "error", err)
		w.conn.close()
		w.conn = nil
	}
}

// synced sets whether a commit waits until it is on the disk. Without that the log stays
// consistent too: a power cut loses the last commits, and none before them.
func (w *conn) synced(on bool) error {
	mode := "NORMAL"
	if on {
		mode = "FULL"
	}
	// Not prepared: SQLite applies it when it compiles it.
	_, err := w.c.ExecContext(w.ctx, "PRAGMA synchronous = "+mode)
	return err
}

// abort ends the transaction. SQLite may have ended it by itself: if another can begin, the
// connection is still usable.
func (w *writer) abort(f *fault) *fault {
	clear(w.conn.runs)
	clear(w.conn.parts)
	broken := primaryCode(f.err) == sqlite3.SQLITE_IOERR
	f.err = storeError(w.path, f.err)
	_, _ = w.conn.exec("ROLLBACK")
	if _, err := w.conn.exec("BEGIN"); err != nil {
		broken = true
	} else if _, err := w.conn.exec("ROLLBACK"); err != nil {
		broken = true
	}
	if broken {
		w.conn.close()
		w.conn = nil
	}
	return f
}

// refused reports whether err is the record's fault, and not the disk's.
func refused(err error) bool {
	return errors.Is(err, ErrMisuse) || errors.Is(err, ErrStaleEpoch) || errors.Is(err, ErrLockHeld)
}

// applyRequest runs r's statements. If r is stale it sets r.err and runs none; any other
// error is that of r's at'th record and spoils the transaction.
func (w *conn) applyRequest(r *request) (at int, err error) {
	r.err = nil
	if r.fn != nil {
		return 0, r.fn(w)
	}
	recs := r.recs
	if len(r.lazy) > 0 {
		recs = append(slices.Clip(r.lazy), r.recs...)
	}
	for i, rec := range recs {
		if _, first := rec.(RunCreated); !first {
			err := w.guard(rec.Stamped())
			if errors.Is(err, ErrStaleEpoch) && i == 0 {
				r.err = err
				return 0, nil
			}
			if err != nil {
				return i, err
			}
		}
		w.work.observe(rec.Stamped())
		if err := rec.apply(w); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// known is what the writer caches of a run, to save a query. There is no other writer;
// after an aborted transaction the cache is dropped.
type known struct {
	epoch int64
	clean bool           // runs.failures and runs.error are known to be empty
	parts map[int64]bool // shared parts that it is known to hold
}

// remember returns what is cached of a run, from the table the first time.
func (w *conn) remember(run string) (*known, error) {
	if k := w.runs[run]; k != nil {
		return k, nil
	}
	k := &known{}
	err := w.row(`SELECT epoch FROM runs WHERE id = $1`, run).Scan(&k.epoch)
	if err != nil {
		return nil, noRunOr(run, err)
	}
	w.runs[run] = k
	return k, nil
}

// guard refuses an epoch that is not the run's.
func (w *conn) guard(s Stamp) error {
	k, err := w.remember(s.Run)
	switch {
	case err != nil:
		return err
	case s.Epoch > k.epoch:
		return misuse("run %s has epoch %d, and a record came with %d", s.Run, k.epoch, s.Epoch)
	case s.Epoch == k.epoch:
		return nil
	}
	return stale(s.Run)
}

func stale(run string) error {
	return &problem.Error{
		Kind: problem.Conflict, Code: problem.StaleEpoch, Call: "journal", Target: "run " + run, Message: ErrStaleEpoch.Error(),
		Work: problem.NotDone, Cause: ErrStaleEpoch, Hint: "moonseal status shows what it does now",
	}
}
