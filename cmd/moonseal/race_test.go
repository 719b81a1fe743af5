//go:build race

package main

// raceDetector is whether this binary was built with the race detector.
const raceDetector = true
