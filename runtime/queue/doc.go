// Package queue says who works on what, how many at once, after which back-off.
//
//	q, err := queue.Open(ctx, queue.Options{Dir: state, Concurrency: 8, Work: work, Unfinished: fromJournal})
//	err = q.Start(ctx)
//	added, err := q.Enqueue(ctx, queue.Job{Run: id, Playbook: "dfw", Locks: []string{"cluster:dfw"}, Expires: notAfter}, when)
//	err = q.Stop(ctx)
//
// A [Job] is a run that has to be worked on. Work is called with it, in a
// goroutine of its own, and its [Result] says whether the run is done, or when
// to call again: a run that waits costs a row and no worker. Of a playbook
// there is one job at most. What expires first goes first. Of the jobs that
// share the name of a lock one is worked on at a time, and one that waits for a
// lock takes no slot; those behind it that want the same lock do not overtake.
//
// # What is lost when
//
// Nothing that Enqueue or a Result said is lost with the process: whatever was
// being worked on when it died is due at once when the queue is opened again.
// After a power cut the last few changes can be missing, because a change of
// the queue is not synced: the journal is the truth, Options.Unfinished gives
// what it knows at Open, and a damaged or missing queue.db is made anew from it.
// So Work may be called for a run that has ended already, or that has nothing
// to do yet; it answers Done or Wait. It is never called twice at once.
//
// # River, and what stands before it
//
// River (on SQLite, <state>/queue.db) keeps the jobs, their uniqueness, and
// fetches, works and bounds them. What it does not do is done here:
//
//   - Its four priorities cannot order by expiry, and it has no locks. So jobs
//     are inserted as "pending", River's state for a job that someone else makes
//     available, and the gate makes available as many as there are free slots,
//     chosen by expiry and lock. The gate keeps the order in memory, some
//     hundred bytes a job, and reads it from the rows at Open.
//   - Its scheduler looks every 5 seconds and would pass by the gate; its rescue
//     goes by age and would run a long job twice. Both belong to the services of
//     an elected leader, and no leader is elected. The gate wakes when the next
//     job is due, and looks at the wall clock each second, as that can jump.
//     Orphans are whatever is not pending at Open: the caller holds the state
//     folder's lock.
//   - Its snooze makes a job of the next 5 seconds available by itself, and what
//     a worker returns is written up to 250 ms later. So a Result is written by
//     the worker, before the slot is free: JobCompleteTx, JobDeleteTx and, where
//     the run goes on, InsertTx, in one transaction.
//   - Its SQLite driver asks the database every 50 ms whether a job was inserted.
//     Here a listener in the process tells it when the gate opens.
package queue
