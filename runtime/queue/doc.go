// Package queue decides which run is worked on when, how many at once, and after which
// backoff.
//
// A [Job] is a run that must be worked on. Work is called with it, in a goroutine of its
// own, and its [Result] says whether the run is done, or when to call again: a run that
// waits costs some hundred bytes and no worker. A playbook has one job at most. What
// expires first runs first.
//
// # What is lost when
//
// Nothing that matters: the queue is in memory, and derived from the journal.
// With the process the order, the backoffs and the wake-ups are lost; New reads
// the unfinished runs from the journal, and those that were being worked on are
// due at once. [Queue.Sync] adds later what could not be enqueued, such as after
// a full disk. As the journal is ahead of the queue, Work may be called for a
// run that has ended, or that has nothing to do yet; it returns Done or Wait. It
// is never called twice at once for a run.
//
// # Locks
//
// Locks are rows of the journal, which runs acquire and release there. The queue
// only keeps runs that wait for locks from being started in vain. A run that
// cannot acquire its locks returns [WaitForLocks], and its job is granted a slot
// when for each name
//
//   - no other run holds the lock, as Options.Held has it,
//   - no job that is being worked on was granted with the name: it may be about
//     to acquire the lock, so the name is reserved until its Work returns,
//   - no due job before it needs the name, unless that waits for a lock that is held:
//     a run that is parked with one lock must not hold up those that need another.
//
// So the release of a lock wakes its waiters one at a time, in the order of expiry.
// What a run holds itself does not block it, and a job without Locks is blocked
// by none. The gate, the goroutine that grants slots, reads Held when jobs with
// Locks are due: each second, after each change of the queue, and on
// [Queue.Recheck].
//
// # Fair shares
//
// While jobs of several tenants are due, a tenant gets half of the slots, and at
// least one. A slot goes to the first job that could run now and whose tenant is
// below its share; if there is none, to the first job that could run now. So no
// slot is free while a job could run, and no work is stopped for another's.
//
// # Time
//
// A job is due exactly at its time: the gate sleeps until the next one. It also
// reads the wall clock each second, as that can jump; if it was set back by more
// than a minute, all jobs that wait are due.
package queue
