//go:build !race

package cli

// raceDetector is whether this binary was built with the race detector.
const raceDetector = false
