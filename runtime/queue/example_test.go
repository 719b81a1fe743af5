package queue_test

import (
	"context"
	"fmt"
	"time"

	"moonseal/runtime/queue"
)

func Example() {
	ctx := context.Background()
	q, err := queue.New(ctx, queue.Options{Concurrency: 1, Work: func(_ context.Context, job queue.Job) queue.Result {
		fmt.Println("working on", job.Playbook)
		return queue.Done()
	}})
	if err != nil {
		panic(err)
	}
	soon, later := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	for _, job := range []queue.Job{{Run: "r1", Playbook: "dfw", Expires: later}, {Run: "r2", Playbook: "phx", Expires: soon}} {
		if _, err := q.Enqueue(job, time.Time{}); err != nil {
			panic(err)
		}
	}
	if err := q.Start(ctx); err != nil {
		panic(err)
	}
	if err := q.Idle(ctx); err != nil {
		panic(err)
	}
	if err := q.Stop(ctx); err != nil {
		panic(err)
	}
	// Output:
	// working on phx
	// working on dfw
}
