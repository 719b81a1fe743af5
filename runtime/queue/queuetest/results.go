package queuetest

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func resultTests() []test {
	return []test{{"RetryBacksOff", testRetry}}
}

func testRetry(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, time.Time{})
	for i, result := range []func() queue.Result{
		func() queue.Result { return queue.Retry(errors.New("no process")) },
		func() queue.Result { panic("oh") },
		func() queue.Result { return queue.Result{} },
		func() queue.Result { runtime.Goexit(); return queue.Done() },
	} {
		r.wantBegan("1")
		r.endWith("1", result)
		w := r.Waiting()
		if len(w) != 1 || !w[0].At.Equal(r.in(time.Second<<i)) || w[0].Tries != i+1 {
			t.Fatalf("waiting %+v at %v", w, r.clock.Now())
		}
		r.sleep(time.Second << i)
	}
	for range 10 {
		r.end("1", queue.Retry(errors.New("no process")))
		r.sleep(5 * time.Minute) // at most
	}
	r.end("1", queue.Wait(time.Time{}))
	r.end("1", queue.Retry(errors.New("no process")))
	if w := r.Waiting(); len(w) != 1 || w[0].Tries != 1 {
		t.Errorf("a wait in between does not end the back-off: %+v", w)
	}
}
