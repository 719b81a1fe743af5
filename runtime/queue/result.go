package queue

import "time"

// Result says what happens to a job next; make it with Done, Wait, WaitForLocks or Retry.
// The zero Result is a bug of Work's, and treated as a retry.
type Result struct {
	kind  kind
	until time.Time
	locks []string
	err   error
}

type kind int

const (
	none kind = iota
	done
	wait
	waitForLocks
	retry
)

// Done ends the job.
func Done() Result { return Result{kind: done} }

// Wait frees the worker until the given time; zero is now. The run waits for no
// locks any longer.
func Wait(until time.Time) Result { return Result{kind: wait, until: until} }

// WaitForLocks frees the worker until none of the locks is held by another run.
func WaitForLocks(names []string) Result {
	return Result{kind: waitForLocks, locks: sortedSet(names)}
}

// Retry is for what has nothing to do with the run, such as a process that
// cannot be started: again after 1, 2, 4, … seconds, 5 minutes at most. A step
// that failed has backoffs of its own; they are a Wait.
func Retry(err error) Result { return Result{kind: retry, err: err} }

const longestBackoff = 5 * time.Minute

func backoff(tries int) time.Duration {
	return min(time.Second<<min(tries-1, 10), longestBackoff)
}
