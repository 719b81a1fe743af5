// Package run is what happens inside one run: durable steps, retries, waits,
// effects, undos, hooks and replay.
//
// [Run] keeps the flow. Its parts are a cursor (where in the recorded history the
// run is), an undo stack (what it owes) and a logbook (what it logs), which write
// through one recorder.
//
// # Replay
//
// The playbook's body runs from its top each time the run resumes. A step that the
// journal has as done returns its journaled result, one that has failed raises its
// journaled error, and the first that is neither continues. So a body must reach the
// world through steps only, and must come to the same steps in the same order: one
// that does not parks the run.
//
// # Effects
//
// A call that changes the outside world is marked in the journal, synced, before
// it is made. If its answer was lost (the process died, the connection was cut) the
// function's probe is asked: it happened, and that is the result; it certainly did
// not, and it is called again; or the probe cannot know, and is asked again at the
// step's next attempt. Without a probe a repeatable function is called
// again, and any other parks the run.
//
// # Bounds
//
// A value has at most [journal.MostValue] bytes, and a run's history at most
// [journal.MostHistory]; what breaks a bound is refused before it is done, at the step or
// call that breaks it. What has happened is always journaled: texts of errors are cut, and
// a call whose result is too large counts as made, with a result that is not known.
//
// # How a body ends
//
// By returning (done), by ctx:skip (skipped), by an error (failed), or by a
// cancel: then undos and hooks run, and the run has ended. Or it stops half-way:
// waiting, parked, or interrupted with its process; then nothing is undone.
package run
