//go:build !race

package daemon

// playbooks is how many there are on the day.
const playbooks = 200
