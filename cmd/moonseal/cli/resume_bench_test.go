package cli

import (
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
)

// BenchmarkResume: from the execution of `moonseal serve`, whose predecessor was
// killed with 50 runs in flight, to the instant at which the first of them continues,
// and the last. The floor is two processes of the same program, one after the other: the
// daemon and its first child.
func BenchmarkResume(b *testing.B) {
	const n = 50
	silent, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp4", "127.0.0.1:0") // the kernel accepts, and nobody says anything
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	d := serveFolder(b, n, `local cucm = require "cucm"
return playbook { run = function(ctx)
  ctx:step("asking", function() return cucm.node { host = "silent", domain = "test", username = secret "PATH", password = secret "PATH" }:served() end)
end }`, fmt.Sprintf("concurrency: %d\nhosts: { \"silent.test:443\": %q }\n", n, silent.Addr()))
	j, err := journal.OpenReadOnly(b.Context(), d.state)
	d.check(err)
	defer func() { d.check(j.Close()) }()
	d.begin(n)
	d.resumed(j, n, 0)
	var first, last, floor []time.Duration
	for epoch := int64(0); b.Loop(); {
		d.check(d.cmd.Process.Signal(syscall.SIGKILL))
		_ = d.cmd.Wait()
		runs, err := j.Runs(b.Context(), journal.Filter{})
		d.check(err)
		for _, r := range runs {
			epoch = max(epoch, r.Epoch)
		}
		floor = append(floor, journaltest.Time(b, func() error {
			if err := exec.CommandContext(b.Context(), d.cmd.Path, "version").Run(); err != nil {
				return err
			}
			return exec.CommandContext(b.Context(), d.cmd.Path, "version").Run()
		}))
		again := exec.Command(d.cmd.Path, d.cmd.Args[1:]...)
		again.Env, again.Stdout, again.Stderr = d.cmd.Env, &d.out, &d.out
		d.cmd = again
		begun := time.Now()
		d.check(again.Start())
		earliest, latest := d.resumed(j, n, epoch)
		first, last = append(first, earliest.Sub(begun)), append(last, latest.Sub(begun))
	}
	b.ReportMetric(milliseconds(first), "ms/first-resume")
	b.ReportMetric(milliseconds(last), "ms/last-resume")
	b.ReportMetric(milliseconds(floor), "ms/floor")
	b.ReportMetric(milliseconds(first)/milliseconds(floor), "first-ratio")
	b.ReportMetric(milliseconds(last)/milliseconds(floor), "last-ratio")
}

// resumed waits until n runs are at work in a later epoch, and returns when the first
// and the last of them began to be.
func (d *measured) resumed(j *journal.Journal, n int, after int64) (first, last time.Time) {
	d.b.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.Now().Add(patience); ; <-again.C {
		runs, err := j.Runs(d.b.Context(), journal.Filter{Status: journal.Running})
		d.check(err)
		at := 0
		first, last = time.Time{}, time.Time{}
		for _, r := range runs {
			if r.Epoch <= after || r.Resumed.IsZero() {
				continue
			}
			at++
			if first.IsZero() || r.Resumed.Before(first) {
				first = r.Resumed
			}
			if r.Resumed.After(last) {
				last = r.Resumed
			}
		}
		if at == n {
			return first, last
		}
		if time.Now().After(late) {
			d.b.Fatalf("%d runs are at work, want %d", at, n)
		}
	}
}
