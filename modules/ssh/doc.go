// Package ssh talks to the interactive shell of an appliance: one that has a
// prompt and a pager, and no exec requests. It verifies host keys by pinned
// fingerprints, and it authenticates once: appliances lock accounts.
//
// All errors are *problem.Error. Those of [Dial] are NotDone; those of
// [Session.Run] after the command was written are Unknown.
package ssh
