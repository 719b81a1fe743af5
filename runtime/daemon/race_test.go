//go:build race

package daemon

// playbooks is how many there are on the day: the database is ten times as slow
// with the race detector.
const playbooks = 40
