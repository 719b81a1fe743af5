package problem

// Code names an error for programs: it stays the same when the words change, and
// survives the wire, where a cause does not. "" for errors that no program tells apart.
type Code string

// The codes of errors that programs tell apart.
const (
	NoRun       Code = "no_run"       // no run has the id
	NoPlaybook  Code = "no_playbook"  // no playbook has the name
	HasScript   Code = "has_script"   // the playbook's script exists
	RunEnded    Code = "run_ended"    // the run has ended
	RunUnended  Code = "run_unended"  // the run has not ended
	RunWorking  Code = "run_working"  // a process works on the run
	NotAsked    Code = "not_asked"    // the run is not waiting for approval
	NotParked   Code = "not_parked"   // the run is not parked
	Unclear     Code = "unclear"      // a decision must say whether a call has happened
	StaleEpoch  Code = "stale_epoch"  // the run was taken over since it was read
	LockHeld    Code = "lock_held"    // another run holds a lock that the run needs
	HoldsNone   Code = "holds_none"   // the run holds no lock
	NothingLeft Code = "nothing_left" // nothing of the run is left to clean up
	NeedsDaemon Code = "needs_daemon" // only a running daemon can do it
	OtherBuild  Code = "other_build"  // two processes that work together are of different builds
	Unloadable  Code = "unloadable"   // the run's scripts no longer load
	TooLarge    Code = "too_large"    // a value, or a run's history, breaks a bound of the journal
	StateInUse  Code = "state_in_use" // another process has the state directory
	StateFailed Code = "state_failed" // the state directory cannot be read or written
)

// HasCode reports whether err is, or wraps, an [Error] with code c.
func HasCode(err error, c Code) bool { return err != nil && From(err).Code == c }
