package journal_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"moonseal/runtime/journal"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "moonseal-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	j, err := journal.Open(ctx, dir, journal.Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = j.Close() }()

	run := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now()}
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	check(j.SaveBundle(ctx, "hash", []journal.Source{{Path: "dfw.lua", Body: []byte("return {}")}}))
	check(j.Write(ctx, journal.RunCreated{Stamp: run, Playbook: "dfw", Bundle: "hash"}))
	// Without a sync of its own: it is written with the next commit.
	check(j.WriteLazy(ctx, journal.StepStarted{Stamp: run, Step: 0, Kind: "step", Name: "uploading_certificate", Attempt: 1}))
	// Synced when it returns, before the call that it marks.
	check(j.Write(ctx, journal.EffectMarked{Stamp: run, Step: 0, N: 0, Fn: "cucm.Node:upload"}))

	h, err := j.History(ctx, run.Run)
	check(err)
	fmt.Println(h.Run.Playbook, h.Run.Status, h.Steps[0].Name, h.Effects[0].Fn, h.Effects[0].State)
	// Output: dfw created uploading_certificate cucm.Node:upload open
}
