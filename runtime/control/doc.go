// Package control is the only place that creates runs and that settles what people
// decide about them. The daemon, the parent of a run's process and the command line
// all call it, so that each of them does the same and refuses the same.
//
//	c := control.New(j, clock)
//	begun, err := c.Begin(ctx, control.Beginning{Playbook: "dfw", Bundle: hash, Sources: sources, Locks: locks})
//	run, err := c.Approve(ctx, begun.Run.ID, control.Decision{By: "alice", Ticket: "CHG0042"})
//
// It works on no run. Whoever calls it makes the run continue: the daemon by its queue,
// the command line by a child of its own.
//
// # Decisions
//
// A decision is a row of the journal, written in the transaction that it takes effect
// in: who, what, when, the ticket and the reason ([journal.Decided]). One about a run
// that no process works on adopts the run, and only if the run is still the one that
// was read ([journal.Journal.DecideRun]): of two people who answer at once one is
// refused with code [problem.StaleEpoch], and a process that has taken the run up
// keeps it. What is refused changes nothing.
//
// # Locks
//
// A run is created with the names of its playbook's locks and holds none of them. The
// journal takes all of them with the mark of the run's first disruptive effect and
// releases them with the run's end; [Control.Unlock] does so before. A name is its
// tenant's, unless the config shares it.
package control
