package queue

import (
	"errors"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// Causes of the end of Work's context, to be found with context.Cause.
var (
	ErrCancelled = errors.New("the run was cancelled") // by [Queue.Cancel]
	ErrStopped   = errors.New("the queue stops")       // [Queue.Stop] waited long enough
)

// Job is a run that has to be worked on.
type Job struct {
	Run      string    // the run's id
	Playbook string    // one unfinished job each
	Locks    []string  // names; jobs that share one are not worked on at once
	Expires  time.Time // what expires first goes first; zero: last
}

// Waiting is a job that nobody works on, and since or until when.
type Waiting struct {
	Job   Job
	At    time.Time // when it is due; in the past: it waits for Lock, or for a slot
	Lock  string    // the lock that it waits for, which another job holds or waits for too
	Tries int       // how often in a row Work asked for a retry
}

// Running is a job that Work was called with, or is just about to be.
type Running struct {
	Job   Job
	Since time.Time
}

// Result says what becomes of a job; make it with Done, Wait or Retry. The zero
// Result is a bug of Work's, and taken as a retry.
type Result struct {
	kind  kind
	until time.Time
	err   error
}

type kind int

const (
	none kind = iota
	done
	wait
	retry
)

// Done ends the job.
func Done() Result { return Result{kind: done} }

// Wait frees the worker until the given time; zero is now.
func Wait(until time.Time) Result { return Result{kind: wait, until: until} }

// Retry is for what has nothing to do with the run, such as a process that
// cannot be started: again after 1, 2, 4, … seconds, 5 minutes at most. A step
// that failed has back-offs of its own; they are a Wait.
func Retry(err error) Result { return Result{kind: retry, err: err} }

const longestBackoff = 5 * time.Minute

func backoff(tries int) time.Duration {
	return min(time.Second<<min(tries-1, 10), longestBackoff)
}

// args is a job as River keeps it.
type args struct {
	Run      string    `json:"run"`
	Playbook string    `json:"playbook" river:"unique"`
	Locks    []string  `json:"locks,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	Tries    int       `json:"tries,omitempty"`
}

// Kind names the jobs for River.
func (args) Kind() string { return "run" }

func (a args) job() Job {
	return Job{Run: a.Run, Playbook: a.Playbook, Locks: a.Locks, Expires: a.Expires}
}

func argsOf(j Job, tries int) args {
	locks := slices.Clone(j.Locks)
	slices.Sort(locks)
	return args{Run: j.Run, Playbook: j.Playbook, Locks: slices.Compact(locks), Expires: j.Expires, Tries: tries}
}

// unfinished are the states in which a job keeps others of its playbook out.
func unfinished() []rivertype.JobState {
	return []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
		rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}
}

func insertOpts(at time.Time) *river.InsertOpts {
	return &river.InsertOpts{
		Pending:     true,
		ScheduledAt: at.UTC(),
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: unfinished()},
	}
}
