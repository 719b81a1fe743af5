package matrix

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"

	"moonseal/modules"
	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
)

// played is a world without servers: the functions are those of the modules, with their
// arguments, results and handles, and what they do is noted. What they return was
// journaled by a renewal of an older version.
type played struct {
	t       *testing.T
	results map[string]json.RawMessage // by function
	probed  map[string]bool            // by function that a renewal calls and that changes something: it has a probe

	mu     sync.Mutex
	ledger map[string]int // how often each call has changed the world
	undone map[string]int
}

// read are the functions that only look, and what of the first step they returned.
func read() map[string]string {
	return map[string]string{"cucm.Node:identity": "installed", "cucm.Node:served": "served", "acme.CA:renewal": "renewal"}
}

// replay returns a world that plays what a finished renewal has journaled.
func replay(t *testing.T, h *journal.History) *played {
	t.Helper()
	registry, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		t.Fatal(err)
	}
	p := &played{t: t, results: map[string]json.RawMessage{}, probed: map[string]bool{}, ledger: map[string]int{}, undone: map[string]int{}}
	for _, e := range h.Effects {
		f := registry.Func(e.Fn)
		if f == nil || f.Impl.Effect == nil {
			t.Fatalf("%s is gone, or changes nothing any more", e.Fn)
		}
		p.results[e.Fn], p.probed[e.Fn] = e.Result, f.Impl.Effect.Probe != nil
	}
	var found map[string]json.RawMessage
	if err := json.Unmarshal(h.Steps[0].Result, &found); err != nil {
		t.Fatal(err)
	}
	for fn, key := range read() {
		p.results[fn] = found[key]
	}
	return p
}

// in returns the same world at another time: after the calls that a journal knows to be
// done, and the open one if it has happened.
func (p *played) in(t *testing.T, h *journal.History, happened bool) *played {
	t.Helper()
	out := &played{t: t, results: p.results, probed: p.probed, ledger: map[string]int{}, undone: map[string]int{}}
	for _, e := range h.Effects {
		if e.State == journal.EffectIsDone || e.State == journal.EffectOpen && happened {
			out.ledger[e.Fn] = 1
		}
	}
	return out
}

func (p *played) counts() (ledger, undone map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.ledger), maps.Clone(p.undone)
}

// modules implements [worker.Setup]'s Modules.
func (p *played) modules() []*bind.Module {
	all := modules.All()
	registry, err := bind.NewRegistry(all...)
	if err != nil {
		p.t.Error(err)
		return all
	}
	for _, m := range all {
		for _, typ := range m.Types {
			for _, f := range typ.Methods {
				p.play(registry, f)
			}
		}
	}
	return all
}

// again are the calls that do not find by themselves that they were made before.
func again(fn string) bool { return fn == "cucm.Node:csr" || fn == "acme.Account:order" }

func (p *played) play(registry *bind.Registry, f *bind.Func) {
	fn := f.Full()
	result := func() (any, error) { return registry.DecodeResult(f, p.results[fn]) }
	if f.Impl.Effect == nil {
		f.Impl.Run = func(*bind.Call, any, any) (any, error) {
			switch fn {
			case "dns.Zone:propagated":
				return bind.Verdict{OK: true}, nil
			case "cucm.Node:serves":
				served, err := registry.DecodeResult(registry.Func("cucm.Node:served"), p.results["cucm.Node:served"])
				return bind.Verdict{OK: true, Value: served}, err
			}
			return result()
		}
		return
	}
	effect := *f.Impl.Effect // with what it says of itself
	effect.Look = func(*bind.Call, any, any) (json.RawMessage, any, bool, error) {
		if again(fn) || !p.happened(fn) {
			return nil, nil, false, nil
		}
		v, err := result()
		return nil, v, true, err
	}
	effect.Do = func(*bind.Call, any, any, json.RawMessage) (any, error) {
		if p.results[fn] == nil {
			return nil, fmt.Errorf("no renewal has called %s", fn)
		}
		p.mu.Lock()
		p.ledger[fn]++
		p.mu.Unlock()
		return result()
	}
	if effect.Probe != nil {
		effect.Probe = func(*bind.Call, any, any, json.RawMessage) (any, bool, error) {
			if !p.happened(fn) {
				return nil, false, nil
			}
			v, err := result()
			return v, err == nil, err
		}
	}
	if effect.Undo != nil {
		effect.Undo = func(*bind.Call, any, any, any) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.undone[fn]++
			return nil
		}
	}
	f.Impl.Effect = &effect
}

func (p *played) happened(fn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ledger[fn] > 0
}
