//go:build race

package sandbox_test

// raceEnabled: the race detector's own memory does not fit under a limit.
const raceEnabled = true
