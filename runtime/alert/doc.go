// Package alert sends alerts: one message when a trouble starts, one each day while it
// lasts, and one when it is over.
//
// Troubles are derived from the daemon's status ([Troubles]), so the code that meets one
// need not report it. Which alerts were sent is kept in a file of the state directory, so
// that a restart repeats none.
package alert
