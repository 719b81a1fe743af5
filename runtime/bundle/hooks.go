package bundle

import (
	"context"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// Hooks are what a script under hooks/ returned, by event.
type Hooks struct {
	File string
	On   map[string]*lua.LFunction
}

// hooksFolder holds the hooks for all playbooks.
const hooksFolder = "hooks"

// Hook reports whether file holds hooks for all playbooks.
func Hook(file string) bool { return strings.HasPrefix(file, hooksFolder+"/") }

// hookFiles returns the scripts under hooks/, sorted.
func (b *Bundle) hookFiles() []string {
	var out []string
	for file := range b.sources {
		if Hook(file) {
			out = append(out, file)
		}
	}
	slices.Sort(out)
	return out
}

// Hooks loads the scripts under hooks/ into s, after the run's playbook. One that
// is broken is left out: [Load] has reported it.
func (b *Bundle) Hooks(ctx context.Context, s *sandbox.State) []Hooks {
	var out []Hooks
	for _, file := range b.hookFiles() {
		if h, err := b.hooksOf(ctx, s, file); err == nil {
			out = append(out, *h)
		}
	}
	return out
}

func (b *Bundle) inspectHook(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	s := sandbox.New(ctx, sandbox.Options{Source: b.Source})
	defer s.Close()
	_, err := b.hooksOf(ctx, s, file)
	return err
}

func (b *Bundle) hooksOf(ctx context.Context, s *sandbox.State, file string) (*Hooks, error) {
	if b.protos[file] == nil {
		return nil, &problem.Error{Kind: problem.Usage, Message: file + " is broken"}
	}
	l := b.loader(s, file)
	values, err := l.call(ctx)
	if err != nil {
		return nil, err
	}
	wrong := func(message string) error {
		return &problem.Error{
			Kind: problem.Usage, Message: message, Place: &problem.Place{File: file},
			Hint: "end it with: return { failure = function(ctx, event) … end }",
		}
	}
	if len(values) == 0 {
		return nil, wrong("the script returns no table of hooks")
	}
	t, ok := values[0].(*lua.LTable)
	if !ok {
		return nil, wrong("the script returns no table of hooks")
	}
	if _, err := functions(t, hooks); err != nil {
		return nil, wrong("the table of hooks " + err.Error())
	}
	h := &Hooks{File: file, On: map[string]*lua.LFunction{}}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		h.On[k.String()], _ = v.(*lua.LFunction)
	}
	return h, nil
}
