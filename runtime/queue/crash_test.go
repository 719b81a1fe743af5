package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

const orphans = 50

// workUntilKilled works on 50 runs at once that never end, has 20 that wait,
// and ends others one after the other. It prints what Work began, what was
// enqueued, and what had ended, each once that is written.
func workUntilKilled(dir string) {
	ctx := context.Background()
	out := make(chan string)
	q, err := Open(ctx, Options{Dir: dir, Concurrency: orphans + 1, Work: func(_ context.Context, j Job) Result {
		if strings.HasPrefix(j.Run, "ends") {
			return Done()
		}
		out <- "began " + j.Run
		select {}
	}})
	if err == nil {
		err = q.Start(ctx)
	}
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go func() {
		add := func(run string, at time.Time) {
			if ok, err := q.Enqueue(ctx, Job{Run: run, Playbook: "playbook of " + run}, at); err != nil || !ok {
				out <- fmt.Sprintln("error", ok, err)
			}
			out <- "enqueued " + run
		}
		for i := range 20 {
			add(fmt.Sprint("waits", i), time.Now().Add(time.Hour))
		}
		for i := range orphans {
			add(fmt.Sprint("runs", i), time.Time{})
		}
		for i := 0; ; i++ {
			run := fmt.Sprint("ends", i)
			add(run, time.Time{})
			for len(q.Running()) > orphans || len(q.Waiting()) > 20 {
				q.mu.Lock()
				changed := q.changed
				q.mu.Unlock()
				select {
				case <-changed:
				case <-time.After(time.Millisecond):
				}
			}
			out <- "ended " + run
		}
	}()
	for line := range out {
		fmt.Println(line)
	}
}

func TestNothingIsLostOrDoubledByKill9(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "MOONSEAL_TEST_QUEUE="+dir)
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	open, ended, began := map[string]bool{}, 0, 0
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		verb, run, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "enqueued":
			open[run] = true
		case "ended":
			delete(open, run)
			ended++
		case "began":
			began++
		default:
			t.Error(lines.Text())
		}
		if ended >= 30 && began == orphans {
			must(t, cmd.Process.Kill()) // what it still printed is read
		}
	}
	_ = cmd.Wait()

	var mu sync.Mutex
	calls := map[string]int{}
	all := make(chan struct{})
	start := time.Now()
	var first, last time.Duration
	q := started(t, Options{Dir: dir, Concurrency: orphans, Work: func(_ context.Context, j Job) Result {
		mu.Lock()
		defer mu.Unlock()
		if len(calls) == 0 {
			first = time.Since(start)
		}
		if calls[j.Run]++; len(calls) == orphans {
			last = time.Since(start)
			close(all)
		}
		return Done()
	}})
	next(t, all)
	idle(t, q)
	t.Logf("of %d orphans the first began %v after Open, the last %v", orphans, first, last)
	if first > time.Second {
		t.Error("resuming began too late")
	}
	mu.Lock()
	defer mu.Unlock()
	waiting := map[string]bool{}
	for _, w := range q.Waiting() {
		waiting[w.Job.Run] = true
	}
	for run := range open {
		if want := strings.HasPrefix(run, "waits"); waiting[run] != want || (calls[run] == 1) == want {
			t.Errorf("%s: waits %v, called %d times", run, waiting[run], calls[run])
		}
	}
	if extra := len(calls) + len(waiting) - len(open); extra > 1 { // one that was enqueued, and killed before it said so
		t.Errorf("%d runs, %d more than were enqueued", len(calls)+len(waiting), extra)
	}
}

// unfinishedRuns gives what a journal would.
func unfinishedRuns(ws ...Waiting) func(context.Context) ([]Waiting, error) {
	return func(context.Context) ([]Waiting, error) { return ws, nil }
}

func TestAMissingOrDamagedFileIsMadeAnew(t *testing.T) {
	later := time.Now().Add(time.Hour).Round(time.Millisecond)
	known := unfinishedRuns(
		Waiting{Job: Job{Run: "1", Playbook: "a", Locks: []string{"l"}, Expires: later}, At: later},
		Waiting{Job: Job{Run: "2", Playbook: "b"}, At: later},
	)
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 5000) },
		"text": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600)
		},
		"pages": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte(strings.Repeat("x", 30_000)), 8192)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := opened(t, Options{Dir: dir})
			for i := range 50 {
				enqueue(t, q, Job{Run: fmt.Sprint("old", i)}, later)
			}
			must(t, q.Stop(t.Context()))
			must(t, damage(filepath.Join(dir, fileName)))
			q = opened(t, Options{Dir: dir, Unfinished: known})
			w := q.Waiting()
			if len(w) != 2 || w[0].Job.Run != "1" || !w[0].At.Equal(later) || len(w[0].Job.Locks) != 1 || !w[0].Job.Expires.Equal(later) {
				t.Errorf("waiting: %+v", w)
			}
		})
	}
}

func TestADamagedFileWithoutTheJournalIsAnError(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, fileName), []byte(strings.Repeat("no database ", 1000)), 0o600))
	_, err := Open(t.Context(), Options{Dir: dir, Concurrency: 1, Work: newHands().work})
	var e *problem.Error
	if !errors.As(err, &e) || e.Kind != problem.Usage || !strings.Contains(e.Message, "damaged") {
		t.Errorf("%v", err)
	}
}

func TestAFolderThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(dir, nil, 0o600))
	_, err := Open(t.Context(), Options{Dir: dir, Concurrency: 1, Work: newHands().work, Unfinished: unfinishedRuns()})
	var e *problem.Error
	if !errors.As(err, &e) || e.Kind != problem.Usage || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestTheJournalIsTheTruth(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Round(time.Millisecond)
	at := func(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }
	q := opened(t, Options{Dir: dir})
	enqueue(t, q, Job{Run: "woken", Playbook: "a"}, at(1))
	enqueue(t, q, Job{Run: "moved", Playbook: "b"}, at(3))
	enqueue(t, q, Job{Run: "ended", Playbook: "c"}, at(1))
	enqueue(t, q, Job{Run: "new here", Playbook: "d"}, at(4))
	must(t, q.Stop(t.Context()))
	q = opened(t, Options{Dir: dir, Unfinished: unfinishedRuns(
		Waiting{Job: Job{Run: "woken", Playbook: "a"}, At: at(2)},
		Waiting{Job: Job{Run: "moved", Playbook: "b"}, At: at(2)},
		Waiting{Job: Job{Run: "next", Playbook: "c"}, At: at(3)},
		Waiting{Job: Job{Run: "lost", Playbook: "e"}, At: at(5)},
	)})
	want := []string{"woken 1", "moved 2", "next 3", "new here 4", "lost 5"}
	for i, w := range q.Waiting() {
		if got := fmt.Sprint(w.Job.Run, " ", w.At.Sub(now).Hours()); i >= len(want) || got != want[i] {
			t.Errorf("%d: %s", i, got)
		}
	}
	if len(q.Waiting()) != len(want) {
		t.Errorf("waiting: %v", q.Waiting())
	}
	must(t, q.Stop(t.Context()))
	if _, err := Open(t.Context(), Options{Dir: dir, Concurrency: 1, Work: newHands().work, Unfinished: func(context.Context) ([]Waiting, error) {
		return nil, errors.New("no journal")
	}}); err == nil {
		t.Error("opened without the journal")
	}
}
