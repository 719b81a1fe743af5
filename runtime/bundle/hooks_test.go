package bundle_test

import (
	"slices"
	"strings"
	"testing"

	"moonseal/runtime/bundle"
	"moonseal/runtime/sandbox"
)

func TestHooksForAll(t *testing.T) {
	files := map[string]string{
		"a.lua":           `return playbook { run = function(ctx) end }`,
		"hooks/chat.lua":  `local say = require "lib.say" return { failure = function(ctx, err) say(err) end, start = function() end }`,
		"hooks/wrong.lua": `return { failur = function() end }`,
		"hooks/none.lua":  `return 5`,
		"lib/say.lua":     `return function() end`,
	}
	b, err := bundle.Load(t.Context(), &bundle.Tree{Files: files}, bundle.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Playbooks) != 1 || len(b.Problems) != 2 {
		t.Fatalf("%+v, %v", b.Playbooks, b.Problems)
	}
	if got := b.Problems[1].Error(); b.Problems[1].Place.File != "hooks/wrong.lua" || !strings.Contains(got, `did you mean "failure"?`) {
		t.Errorf("got %s", got)
	}
	for _, need := range []string{"hooks/chat.lua", "lib/say.lua"} {
		if !slices.Contains(b.Playbooks[0].Needs, need) {
			t.Errorf("the playbook does not need %s: %v", need, b.Playbooks[0].Needs)
		}
	}
	state := sandbox.New(t.Context(), sandbox.Options{Source: b.Source})
	defer state.Close()
	if _, err := b.Playbook(t.Context(), state, "a"); err != nil {
		t.Fatal(err)
	}
	hooks := b.Hooks(t.Context(), state)
	if len(hooks) != 1 || hooks[0].File != "hooks/chat.lua" || len(hooks[0].On) != 2 || hooks[0].On["failure"] == nil {
		t.Errorf("%+v", hooks)
	}
}
