package queue_test

import (
	"testing"

	"moonseal/runtime/queue"
	"moonseal/runtime/queue/queuetest"
)

func TestContract(t *testing.T) {
	queuetest.Run(t, func(t *testing.T, o queue.Options) queue.Queue {
		t.Helper()
		q, err := queue.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return q
	})
}
