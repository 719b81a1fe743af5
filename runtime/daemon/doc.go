// Package daemon is what runs for years: it joins journal, queue, schedule,
// reload and api, and starts and stops them in their order.
//
// # Start
//
// The journal is opened, which locks the state folder, so every unfinished run
// is an orphan and goes back into the queue. Then the scripts are loaded, the
// schedule is set, the socket is opened, and systemd is told READY.
//
// # Work
//
// The schedule, a person or a moment that a run asked for begins a run: its row
// is written with the sources that it needs, and its id is queued. A free worker
// resumes it in a child process. A run that waits costs a row in the queue.
//
// # Change
//
// A new config is made into [Parts], tried, and put into force as a whole: what
// begins or continues afterwards takes all from them, what runs has what it began
// with. One that does not work changes nothing.
//
// # Keep
//
// Once a day what has ended long ago is removed from the journal.
//
// # A state directory that cannot be written
//
// On a full disk, or one that fails, runs wait where they are and status says so. It
// is tried every few seconds whether something can be written; then what waited goes
// on, and what was due meanwhile begins.
//
// # Stop
//
// The socket and the schedule close first. Runs that are under way get the stop
// timeout to come to a wait or an end; then their processes end, and the next
// start takes them up where the journal has them.
package daemon
