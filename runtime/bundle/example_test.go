package bundle_test

import (
	"context"
	"fmt"

	"moonseal/runtime/bundle"
)

// A bundle has the playbooks that its scripts return. A script that fails is a problem of
// its own, and harms no other.
func Example() {
	tree := &bundle.Tree{Files: map[string]string{ // or bundle.Read("scripts")
		"dfw.lua":      `return playbook { schedule = require("lib.when").night, run = function(ctx) end }`,
		"acme/ord.lua": `return playbook { run = function(ctx) end }`,
		"lib/when.lua": `return { night = "17 3 * * *" }`,
		"lax.lua":      `return playbook { schedule = 3 }`,
	}}
	b, err := bundle.Load(context.Background(), tree, bundle.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range b.Playbooks {
		fmt.Printf("%s: %s:%d\n", p.Name, p.File, p.Line)
	}
	for _, e := range b.Problems {
		fmt.Printf("%s:%d: %s\n", e.Place.File, e.Place.Line, e.Message)
	}
	// Output:
	// acme/ord: acme/ord.lua:1
	// dfw: dfw.lua:1
	// lax.lua:1: schedule must be a string or a table, got 3
}
