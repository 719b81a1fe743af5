//go:build !race

package systest

// raceDetector is whether the tests, and so the program, are built with the race detector.
const raceDetector = false
