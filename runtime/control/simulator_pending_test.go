package control_test

// What the engine does not keep yet. Each is found within some hundred cases once its
// line says false, and goes when the engine keeps it.
const (
	pendingTimeout  = false // a run whose time is used up ends with an open call, and its waits count as work
	pendingCounters = false // the rounds of one step count for the next
	pendingWord     = true  // resume --as done of several unclear calls parks for ever: none can be given its result
	pendingWaits    = true  // a wait that began while the clock was ahead lasts until that hour
)
