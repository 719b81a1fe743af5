//go:build race

package acmetest

// raceEnabled is whether this binary was built with the race detector.
const raceEnabled = true
