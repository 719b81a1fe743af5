package queue_test

import (
	"context"
	"errors"
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

func TestMisuseOfNew(t *testing.T) {
	work := func(context.Context, queue.Job) queue.Result { return queue.Done() }
	for _, o := range []queue.Options{{}, {Concurrency: 1}, {Work: work}, {Work: work, Concurrency: 10_001}} {
		if _, err := queue.New(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestNewFailsWithoutTheJournal(t *testing.T) {
	broken := errors.New("no journal")
	_, err := queue.New(t.Context(), queue.Options{
		Concurrency: 1, Work: func(context.Context, queue.Job) queue.Result { return queue.Done() },
		Unfinished: func(context.Context) ([]queue.Waiting, error) { return nil, broken },
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
