// Package reload keeps a folder's playbooks current while people edit it.
//
// # What a change goes through
//
// An event of the file system is only a hint that something may have changed.
// Hints are debounced ([Options.Debounce]), then the folder's files are compared:
// those whose size, times and inode are as they were count as unchanged, others are
// read. A file that was written to moments ago, or that has just gone, holds up the
// reload, for [Options.MaxDelay] at most: then the others are loaded without it, and
// without what may need it. A rescan ([Options.Rescan]) finds what raised no event.
//
// Scripts that changed, and those that need a file under lib/ that did, are then
// loaded by [Options.Load], in another process: nothing here runs Lua. If a script
// ends that process, the others are loaded without it.
//
// # What is never lost
//
// A [Snapshot] is immutable, and replaced as a whole. A script that does not load
// leaves its playbooks as they were, with the sources that they had, and is one of
// the snapshot's problems; it is logged once for each text that it has. The same
// holds for a script that cannot be read, a missing folder, and a process that cannot
// be started. Of a broken hook for all playbooks the last good version runs. Only a
// script that is removed takes its playbooks with it. After a restart the last good
// version is what [Options.Last] returns.
package reload
