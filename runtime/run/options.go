package run

import (
	"errors"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/duration"
)

// Playbook is what the engine needs of a playbook's table.
type Playbook struct {
	Name    string
	Run     *lua.LFunction
	On      map[string]*lua.LFunction
	ForAll  []Hooks       // of the scripts under hooks/
	Timeout time.Duration // of work, not of waits; 0: none
	GiveUp  time.Duration // how long a run continues at a step that fails
	Mode    string        // "auto", "ask" or "watch"; "" is auto
}

// Hooks are one script's, which see the runs of all playbooks.
type Hooks struct {
	File string
	On   map[string]*lua.LFunction
}

// events are what a playbook's on table may name.
func events() []string {
	return []string{"start", "step", "retry", "wait", "success", "failure", "finish"}
}

// ReadPlaybook reads a playbook's table, which the bundle has checked.
func ReadPlaybook(L *lua.LState, name string, t *lua.LTable) (Playbook, error) {
	p := Playbook{Name: name, On: map[string]*lua.LFunction{}, GiveUp: DefaultGiveUp}
	fn, ok := L.GetField(t, "run").(*lua.LFunction)
	if !ok {
		return p, misuse("playbook", fmt.Sprintf("%s has no run function", name), "run = function(ctx) … end")
	}
	p.Run = fn
	for key, dst := range map[string]*time.Duration{"timeout": &p.Timeout, "give_up": &p.GiveUp} {
		switch v := L.GetField(t, key).(type) {
		case *lua.LNilType:
		case lua.LString:
			d, err := duration.Parse(string(v))
			if err != nil {
				return p, misuse("playbook", fmt.Sprintf("%s: %s: %s", name, key, err), "")
			}
			*dst = d
		case lua.LNumber:
			*dst = time.Duration(float64(v) * float64(time.Second))
		default:
			return p, misuse("playbook", fmt.Sprintf(`%s: %s expects a duration such as "2h"`, name, key), "")
		}
	}
	if mode, ok := L.GetField(t, "mode").(lua.LString); ok {
		p.Mode = string(mode)
	}
	if on, ok := L.GetField(t, "on").(*lua.LTable); ok {
		for _, event := range events() {
			if fn, ok := L.GetField(on, event).(*lua.LFunction); ok {
				p.On[event] = fn
			}
		}
	}
	return p, nil
}

// stepOptions are the options of ctx:step and ctx:poll.
type stepOptions struct {
	Retry   Retry         `lua:"retry,optional" doc:"how often and when it is attempted again"`
	Timeout time.Duration `lua:"timeout,optional" doc:"of one attempt: of a step 4h unless set, of a poll an hour more than within"`
	Key     string        `lua:"key,optional" doc:"distinguishes steps of one name"`
	Within  time.Duration `lua:"within,optional" doc:"of a poll: how long to ask, 10 minutes unless set"`
	Every   time.Duration `lua:"every,optional" doc:"of a poll: the pause between two questions"`

	probe *lua.LFunction
}

const (
	defaultWithin = 10 * time.Minute
	// defaultTimeout bounds an attempt: a function that does not end would keep a worker
	// for ever. A restart of all services of a slow node takes less.
	defaultTimeout = 4 * time.Hour
	// pollSlack is what a poll gets beside the time that it may ask for.
	pollSlack = time.Hour
)

// options reads the options table of ctx:step or ctx:poll; nil is none.
func (c *luaContext) options(kind string, v lua.LValue) (stepOptions, error) {
	opts := stepOptions{}
	t, isTable := v.(*lua.LTable)
	if !isTable {
		if v != lua.LNil {
			return opts, fmt.Errorf("the options must be a table, got a %s", v.Type())
		}
		t = &lua.LTable{}
	}
	plain := bind.NewObject()
	for k, e := t.Next(lua.LNil); k != lua.LNil; k, e = t.Next(k) {
		name, ok := k.(lua.LString)
		if !ok {
			return opts, fmt.Errorf("the options have the key %s: keys are names", k)
		}
		switch name {
		case "probe":
			fn, ok := e.(*lua.LFunction)
			if !ok {
				return opts, fmt.Errorf("options.probe expects a function, got a %s", e.Type())
			}
			opts.probe = fn
			continue
		case "retry": // a number is short for its count
			if n, ok := e.(lua.LNumber); ok {
				retry := bind.NewObject()
				retry.Set("count", float64(n))
				plain.Set("retry", retry)
				continue
			}
		}
		value, err := c.run.binding.FromLua(e)
		if err != nil {
			return opts, fmt.Errorf("options.%s: %w", name, err)
		}
		plain.Set(string(name), value)
	}
	if plain.Values["retry"] == nil {
		plain.Set("retry", bind.NewObject())
	}
	if err := c.run.opt.Registry.Fill(&opts, plain, "options"); err != nil {
		return opts, err
	}
	return opts, opts.check(kind)
}

func (o *stepOptions) check(kind string) error {
	if o.Retry.Count < 1 || o.Retry.Count > 100 {
		return fmt.Errorf("options.retry counts attempts, 1 to 100, got %d", o.Retry.Count)
	}
	known := []string{"unavailable", "timeout", "rate_limited"}
	for _, k := range o.Retry.On {
		if !slices.Contains(known, k) {
			return fmt.Errorf("options.retry.on has %q: waiting fixes unavailable, timeout and rate_limited only", k)
		}
	}
	if kind != kindPoll && (o.Within != 0 || o.Every != 0) {
		return errors.New("options within and every belong to ctx:poll")
	}
	if kind == kindPoll && o.Within == 0 {
		o.Within = defaultWithin
	}
	switch {
	case o.Timeout > 0:
	case kind == kindPoll:
		o.Timeout = o.Within + pollSlack
	default:
		o.Timeout = defaultTimeout
	}
	return nil
}
