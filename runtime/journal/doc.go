// Package journal is the durable record of runs: what was started, what was done,
// what has to be undone. It is the truth; everything else can be rebuilt.
//
//	j, err := journal.Open(ctx, dir, journal.Options{})
//	defer j.Close()
//	hash := …; err = j.SaveBundle(ctx, hash, sources)
//	run := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: now}
//	err = j.Write(ctx, journal.RunCreated{Stamp: run, Playbook: "dfw", Bundle: hash})
//	err = j.WriteLazy(ctx, journal.StepStarted{…})          // with the next commit
//	err = j.Write(ctx, journal.EffectMarked{…, Undo: &…})   // synced when it returns
//
// # Writing
//
// A [Record] is one fact about one run. Write returns when its records are
// synced to the disk: a power cut after it loses none of them, one before it
// leaves all of them or none. One goroutine owns the only writing connection
// and commits whatever has gathered since its last commit as one transaction,
// so that many runs share one sync. WriteLazy is for what needs no sync of its
// own: it goes with the next commit. After [LazyDelay] it is written without a sync, so
// that others can read it: a power cut may take it until the next commit. The order of a
// run's records is kept.
//
// # Who may write
//
// One process at a time has the journal open for writing; it holds
// <state>/moonseal.lock. Within it a run belongs to whoever adopted it last:
// [Journal.Adopt] raises the run's epoch, and a record with another epoch is
// refused ([ErrStaleEpoch]) without harm to those that share its commit.
// [LockRun] keeps two processes from working on one run.
//
// # When a write fails
//
// On a full disk, or one that fails, every Write that could not be synced gets
// the error, lazy records are kept for the next attempt, and later writes work
// as soon as the disk does. A record that cannot be (an effect of a step that
// was never started) is refused alone, as [ErrMisuse].
//
// # What is kept
//
// Everything, unless [Journal.Purge] is called: it removes what has ended long ago,
// in small transactions between which others write, and [Journal.Horizon] tells up
// to when it did. Unfinished runs, pending undos and each playbook's last run stay.
//
// # Upgrades
//
// Open brings a journal of an older version up to date: forward only, a transaction
// for each version, after a copy of the whole beside it. [Restore] of that copy, by the
// version before, is the way back.
//
// # Reading
//
// Reads never wait for the writer and see only what was committed.
// [OpenReadOnly] reads beside another process that writes. Errors are
// *problem.Error.
package journal
