// Package control is the only place that creates runs and writes decisions about them. The
// daemon, the parent of a run's process and the command line all call it, so that each of
// them does the same and refuses the same. The example shows how.
//
// It works on no run. The caller makes the run continue: the daemon by its queue, the
// command line by a child of its own.
//
// # Decisions
//
// A decision is a row of the journal, written in the transaction that it takes effect
// in: who, what, when, the ticket and the reason ([journal.Decided]). One about a run
// that no process works on adopts the run, and only if the run is still the one that
// was read ([journal.Journal.DecideRun]): of two decisions at once one is refused with
// code [problem.StaleEpoch], and a process that has resumed the run keeps it. What is
// refused changes nothing.
//
// # Locks
//
// A run is created with the names of its playbook's locks and holds none of them. The
// journal acquires all of them with the mark of the run's first disruptive effect and
// releases them with the run's end; [Control.Unlock] does so before. A name is its
// tenant's, unless the config shares it.
package control
