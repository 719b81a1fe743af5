package journal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writeUntilKilled writes records in eight runs at once, and prints each that
// was acknowledged: the run and the number. Lazy ones go between them.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	j, err := Open(ctx, dir, Options{})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	if err := j.SaveBundle(ctx, "h", nil); err != nil {
		fmt.Println("error", err)
	}
	lines := make(chan string)
	for range 8 {
		go func() {
			s := Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now()}
			err := j.Write(ctx, RunCreated{Stamp: s, Playbook: "p", Bundle: "h"})
			for n := 0; err == nil; n++ {
				if err = j.WriteLazy(ctx, StepStarted{Stamp: s, Step: n, Kind: "step", Name: "n", Attempt: 1}); err == nil {
					err = j.Write(ctx, StepDone{Stamp: s, Step: n, Result: []byte(strconv.Itoa(n))})
				}
				lines <- s.Run + " " + strconv.Itoa(n)
			}
			lines <- "error " + err.Error()
		}()
	}
	for l := range lines {
		fmt.Println(l)
	}
}

func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	for _, after := range []int{1, 50, 400} {
		t.Run(strconv.Itoa(after), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			acked := killedWriter(t, dir, after)
			j := openTest(t, dir) // the lock ended with its holder
			for run, last := range acked {
				h := history(t, j, run)
				if len(h.Steps) <= last {
					t.Fatalf("run %s: %d steps, acknowledged up to %d", run, len(h.Steps), last)
				}
				for n, st := range h.Steps[:last+1] {
					if st.Step != n || st.State != StepIsDone || string(st.Result) != strconv.Itoa(n) {
						t.Errorf("run %s: step %d is %+v", run, n, st)
					}
				}
			}
			s := newRun(t, j, "p") // and it continues
			must(t, j.Write(t.Context(), Logged{Stamp: s}))
		})
	}
}

// killedWriter starts a writing process, kills it after so many lines, and
// returns the last number that each run had acknowledged.
func killedWriter(t *testing.T, dir string, after int) map[string]int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "MOONSEAL_TEST_WRITER="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	acked := map[string]int{}
	lines := 0
	for in := bufio.NewScanner(out); in.Scan(); {
		run, n, _ := strings.Cut(in.Text(), " ")
		last, err := strconv.Atoi(n)
		if err != nil {
			t.Fatalf("the writer says: %s", in.Text())
		}
		acked[run] = last
		if lines++; lines == after {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || lines < after {
		t.Fatalf("the writer ended by itself after %d lines: %v", lines, err)
	}
	return acked
}
