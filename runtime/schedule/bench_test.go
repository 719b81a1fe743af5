package schedule

import (
	"container/heap"
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const many = 10_000

func full(tb testing.TB, enqueue func(context.Context, string, Reason)) (*Scheduler, map[string]Entry) {
	tb.Helper()
	entries := make(map[string]Entry, many)
	for name, s := range mixed(tb, many) {
		entries[name] = Entry{Schedule: s, LastRun: time.Now()}
	}
	s := New(Options{Enqueue: enqueue})
	s.Set(entries)
	return s, entries
}

// cpu is the time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle is what 10,000 playbooks cost while none is due: one look each
// glance, through gocron. %core is at the real pace of one a minute.
func BenchmarkIdle(b *testing.B) {
	s, _ := full(b, func(context.Context, string, Reason) {})
	s.alarm.glance = 2 * time.Millisecond
	if err := s.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Stop(); err != nil {
			b.Error(err)
		}
	})
	used := cpu(b)
	b.ResetTimer()
	looks := func() int64 { return s.alarm.count.Load() / 2 } // gocron asks when it fires, and when it is armed
	for looks() < int64(b.N) {
		<-time.After(10 * time.Millisecond)
	}
	each := float64(cpu(b)-used) / float64(looks())
	b.ReportMetric(each/1000, "cpu-µs/look")
	b.ReportMetric(100*each/float64(time.Minute), "%core")
}

// BenchmarkSet is a reload in which nothing of 10,000 playbooks changed.
func BenchmarkSet(b *testing.B) {
	s, entries := full(b, nil)
	for b.Loop() {
		s.Set(entries)
	}
}

// BenchmarkTake enqueues one of 10,000, and plans its next run.
func BenchmarkTake(b *testing.B) {
	s, _ := full(b, nil)
	for b.Loop() {
		e := s.heap[0]
		s.planner.fire(e, e.wake())
		heap.Fix(&s.heap, e.place)
	}
}

// BenchmarkMemory is what one of 10,000 takes.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		s, entries := full(b, nil)
		clear(entries)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/many, "B/playbook")
		runtime.KeepAlive(s)
	}
}

func BenchmarkNext(b *testing.B) {
	for name, table := range map[string]map[string]any{
		"daily":  {"cron": "17 3 * * *", "tz": "America/Chicago"},
		"5min":   {"cron": "*/5 * * * *", "tz": "America/Chicago"},
		"29 feb": {"cron": "17 3 29 2 *", "tz": "America/Chicago"},
	} {
		b.Run(name, func(b *testing.B) {
			s, now := parse(b, table), noon
			for b.Loop() {
				now = s.Next(now)
			}
		})
	}
}

func BenchmarkSlot(b *testing.B) {
	w := window(b, "Sat,Sun 22:00-05:00 America/Chicago")
	black := blackouts(b, "2026-12-20..2027-01-06")
	for b.Loop() {
		if c := Slot(w, black, noon, noon.AddDate(0, 0, 60), noon.AddDate(0, 0, 90)); c.Warning != "" {
			b.Fatal(fmt.Sprint(c))
		}
	}
}
