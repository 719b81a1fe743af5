// Package queuetest is the contract of [queue.Queue], as tests that use nothing
// but the interface. They run in synctest bubbles: time passes when all wait.
package queuetest

import (
	"slices"
	"testing"
	"testing/synctest"

	"moonseal/runtime/queue"
)

// Open returns a queue that was not started.
type Open func(t *testing.T, o queue.Options) queue.Queue

type test struct {
	name string
	run  func(t *testing.T, open Open)
}

// Run tests the queues that open returns.
func Run(t *testing.T, open func(t *testing.T, o queue.Options) queue.Queue) {
	for _, test := range slices.Concat(orderTests(), lockTests(), shareTests(), timeTests(), syncTests(), cancelTests(), resultTests(), stopTests()) {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t, open) })
		})
	}
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}
