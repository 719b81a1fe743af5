//go:build race

package worker

// raceDetector is whether this binary was built with the race detector.
const raceDetector = true
