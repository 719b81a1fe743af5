// Package journal is the durable record of runs: what was started, what was done, what
// must be undone. It is the truth; everything else can be rebuilt from it.
//
// The example writes the first records of a run.
//
// # Writing
//
// A [Record] is one fact about one run. Write returns when its records are synced to the
// disk: a power cut after it loses none of them, one before it leaves all of them or none.
// There is one writing connection; what has gathered since the last commit is written as
// one transaction, so that many runs share one sync. WriteLazy is for records that need no
// sync of their own: they are written with the next commit. After [LazyDelay] they are
// written without a sync, so that others can read them: until the next commit a power cut
// may lose them. The order of a run's records is kept.
//
// # Who may write
//
// One process at a time has the journal open for writing; it holds <state>/moonseal.lock.
// Within it a run belongs to its last adopter: [Journal.Adopt] raises the run's epoch, and
// a record with another epoch is refused ([ErrStaleEpoch]) without harm to those that share
// its commit. [LockRun] keeps two processes from working on one run.
//
// # When a write fails
//
// If the disk is full or fails, every Write that could not be synced returns the error,
// lazy records are kept for the next attempt, and later writes succeed as soon as the disk
// works. An invalid record (an effect of a step that was never started) is refused alone,
// as [ErrMisuse].
//
// # Retention
//
// Everything is kept, unless [Journal.Purge] is called: it removes what has ended long ago,
// in small transactions between which others write, and [Journal.Horizon] returns up to
// when it did. Unfinished runs, pending undos and each playbook's last run stay.
//
// # Upgrades
//
// Open upgrades a journal of an older version: forward only, a transaction for each
// version, after it has copied the file. [Restore] of that copy, by the previous version,
// is the way back.
//
// # Reading
//
// Reads never wait for the writer and see only what was committed.
// [OpenReadOnly] reads beside another process that writes. Errors are
// *problem.Error.
package journal
