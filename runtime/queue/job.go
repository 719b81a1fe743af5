package queue

import (
	"slices"
	"time"
)

// Job is a run that must be worked on.
type Job struct {
	Run      string    // the run's id
	Playbook string    // one unfinished job each
	Tenant   string    // for fair shares; "" is a tenant too
	Locks    []string  // names that the run waits for; empty for none
	Expires  time.Time // the earliest runs first; zero is last
}

// Waiting is a job that is not being worked on, and since or until when.
type Waiting struct {
	Job   Job
	At    time.Time // when it is due; in the past: it waits for Lock, or for a slot
	Lock  string    // the lock that it waits for, "" for none
	Tries int       // how often in a row Work asked for a retry
}

// Running is a job that Work was called with, or is just about to be.
type Running struct {
	Job   Job
	Since time.Time
}

// Cancelled is the state in which Cancel found a job.
type Cancelled string

// The states in which Cancel can find a job.
const (
	NotFound   Cancelled = ""        // the run has no job
	WasWaiting Cancelled = "waiting" // its job is gone
	WasRunning Cancelled = "running" // the context of its Work has ended, or will have when it starts
)

func (j Job) check() error {
	if j.Run == "" || j.Playbook == "" {
		return misuse("a job must have a run and a playbook, not %q and %q", j.Run, j.Playbook)
	}
	return nil
}

// sortedSet returns a sorted copy without duplicates.
func sortedSet(names []string) []string {
	set := slices.Clone(names)
	slices.Sort(set)
	return slices.Compact(set)
}
