//go:build race

package control_test

// raceEnabled: with the race detector a case takes ten times as long.
const raceEnabled = true
