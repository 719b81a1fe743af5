package control_test

import (
	"context"
	"fmt"
	"os"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
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

	c := control.New(j, nil)
	started, err := c.Begin(ctx, control.Beginning{
		Playbook: "dfw", Bundle: "hash", Sources: []journal.Source{{Path: "dfw.lua", Body: []byte("return {}")}}, Locks: []string{"dfw-cucm"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(started.Run.Playbook, started.Run.Status, started.Unfinished)

	again, err := c.Begin(ctx, control.Beginning{Playbook: "dfw", Bundle: "hash"})
	fmt.Println(again.Run.ID == started.Run.ID, again.Unfinished, err)

	_, err = c.Approve(ctx, started.Run.ID, control.Decision{By: "alice", Ticket: "CHG0042"})
	fmt.Println(problem.From(err).Code)
	// Output:
	// dfw created false
	// true true <nil>
	// not_asked
}
