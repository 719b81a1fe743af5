package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"moonseal/runtime/problem"
)

// Lock is a name that one run holds, from its first disruptive effect to its end.
type Lock struct {
	Name     string    `json:"name"`
	Run      string    `json:"run"`
	Playbook string    `json:"playbook"` // the run's
	Taken    time.Time `json:"taken"`
}

const locksQuery = `SELECT locks.name, locks.run, runs.playbook, locks.taken_at FROM locks CROSS JOIN runs ON runs.id = locks.run ORDER BY locks.name`

// Locks returns the locks that are held, by name.
func (j *Journal) Locks(ctx context.Context) ([]Lock, error) {
	return list(ctx, j, j.reads, func(scan func(...any) error) (Lock, error) {
		var l Lock
		err := scan(&l.Name, &l.Run, &l.Playbook, at(&l.Taken))
		return l, err
	}, locksQuery)
}

// Holders returns which run holds each lock.
func (j *Journal) Holders(ctx context.Context) (map[string]string, error) {
	locks, err := j.Locks(ctx)
	out := make(map[string]string, len(locks))
	for _, l := range locks {
		out[l.Name] = l.Run
	}
	return out, err
}

// acquireLocks acquires all locks of a run that it does not hold yet, or none and returns
// ErrLockHeld. The clean-up of a run that has ended acquires none: it would keep them.
func (w *conn) acquireLocks(run string, at time.Time) error {
	var names []string
	var ended sql.NullInt64
	if err := w.row(`SELECT locks, ended_at FROM runs WHERE id = $1`, run).Scan(parsed(&names), &ended); err != nil {
		return err
	}
	for _, name := range names {
		var holder, playbook string
		err := w.row(`SELECT locks.run, runs.playbook FROM locks JOIN runs ON runs.id = locks.run WHERE locks.name = $1`, name).Scan(&holder, &playbook)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case holder != run:
			return lockHeld(name, holder, playbook)
		}
	}
	if ended.Valid {
		return nil
	}
	for _, name := range names {
		if _, err := w.exec(`INSERT INTO locks (name, run, taken_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`, name, run, at.UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

func (w *conn) releaseLocks(run string) error {
	_, err := w.exec(`DELETE FROM locks WHERE run = $1`, run)
	return err
}

// lockHeld returns the error of a held lock. It is retryable.
func lockHeld(name, run, playbook string) error {
	return &problem.Error{
		Kind: problem.Unavailable, Code: problem.LockHeld, Target: "lock " + name, Message: "held by run " + run + " of " + playbook,
		Work: problem.NotDone, Cause: ErrLockHeld, Hint: "moonseal unlock " + run + " releases it once that run waits",
	}
}

// listColumn is a list as JSON; NULL if it is empty.
func listColumn(names []string) (any, error) {
	if len(names) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(names)
	return string(b), err
}
