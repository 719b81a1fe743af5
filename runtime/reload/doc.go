// Package reload keeps a folder's playbooks current while people edit it.
//
//	r := reload.New(reload.Options{Dir: dir, Load: load, Apply: apply})
//	err := r.Start(ctx)              // reads the folder, then watches it
//	p := r.Current().Find("dfw")     // at any time, from any goroutine
//	snapshot, err := r.Reload(ctx)   // now, and wait for it
//	r.Close()
//
// # What a change goes through
//
// An event of the file system is only a hint that something may have changed.
// When no more came for a while ([Options.Settle]), the folder's files are looked
// at: those whose size, times and inode are as they were count as unchanged,
// others are read. A file that was written to moments ago, and one that has just
// gone, are waited for, but not for ever ([Options.Cap]): then the others continue
// without them, and without what may need them. A rescan ([Options.Rescan]) finds
// what no event told of.
//
// Scripts that changed, and those that need a file under lib/ that did, are then
// loaded by [Options.Load], which does that in another process: nothing here runs
// Lua. A process that dies of a script is started again without it.
//
// # What is never lost
//
// A [Snapshot] is immutable, and replaced as a whole. A script that does not load
// leaves its playbooks as they were, with the sources that they had, and is one of
// the snapshot's problems; it is logged once for each text that it has. So do a
// script that cannot be read, a missing folder, and a process that cannot be
// started. A hook for all playbooks that is broken continues as it was last in order.
// Only a script that is gone takes its playbooks with it. Across a restart the last
// good version is what [Options.Last] returns.
package reload
