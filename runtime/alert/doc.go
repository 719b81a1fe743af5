// Package alert tells people what they have to look at: one message when a
// trouble begins, one each day while it lasts, and one when it is over.
//
// What is wrong is derived from the daemon's status ([Troubles]), so nothing has
// to be reported by whoever meets it; what was said is kept in a file of the
// state directory, so that a restart says nothing twice.
package alert
