// Package daemon joins journal, queue, schedule, reload and api into the daemon, and
// starts and stops them in order.
//
// # Start
//
// The journal is opened, which locks the state directory; every unfinished run is then
// an orphan and goes back into the queue. Then the scripts are loaded, the schedule is
// set, the socket is opened, and systemd gets READY=1.
//
// # Work
//
// The schedule, a command, or a moment that a run asked for starts a run: its row is
// written with the sources that it needs, and its id is queued. A free worker resumes it
// in a child process. A run that waits costs a row in the queue.
//
// # Reconfiguration
//
// A new config is made into [Parts], tried, and put into force as a whole: what starts
// or continues afterwards uses them, what runs keeps those that it started with. A config
// that does not work changes nothing.
//
// # Retention
//
// Once a day the journal is pruned.
//
// # A state directory that cannot be written
//
// If the disk is full or fails, runs wait where they are, and the status reports it. A
// write is tried every few seconds; once it succeeds the runs that waited continue, and
// those that were due meanwhile start.
//
// # Stop
//
// The socket and the schedule close first. Runs that are under way have the stop timeout
// to reach a wait or their end; then their processes end, and the next start resumes
// them as the journal has them.
//
// # Parts
//
// [Daemon] wires and orders; each part is a type of its own with the fields that it
// needs: settings (the config in force), dispatcher (runs: creating, queueing, executing),
// planner (when they are due), statusReader, storage (whether the state directory can be
// written), notifier (alerts), maintenance (the loop of every minute), cleaner (undos of
// runs that have ended) and retention.
package daemon
