package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// Made is a handle that a script made while it was loaded, or that its runs have
// journaled.
type Made struct {
	File  string          `json:"file"`            // the script
	Key   string          `json:"key"`             // of handles with the same key only one need be examined
	Names []string        `json:"names,omitempty"` // hosts that it is about
	Data  json.RawMessage `json:"data"`            // as handles are journaled
}

// Examination is what a child examines instead of running anything.
type Examination struct {
	Handles []json.RawMessage `json:"handles"`
	Names   []string          `json:"names,omitempty"` // hosts that the playbook is about
}

// Examine examines what a playbook's handles refer to, in a child that may reach what the
// playbook may, and nothing else. job names the playbook, and has no scripts.
func (p *Parent) Examine(ctx context.Context, job Job) ([]bind.Finding, error) {
	spawner := p.Spawner
	if e, ok := spawner.(Exec); ok {
		spawner = e.reading()
	}
	s, err := p.With(spawner, p.Secrets).start(ctx, nil, &job)
	if err != nil {
		return nil, err
	}
	r, err := s.served(ctx)
	if err != nil {
		return nil, s.end(err)
	}
	return r.Findings, s.end(nil)
}

// made collects the handles that a script makes while it is loaded.
type made struct {
	registry *bind.Registry
	list     []Made
}

// add adds v if it is a handle that can be examined.
func (m *made) add(file string, v any) {
	plain, err := m.registry.ToPlain(v)
	if err != nil {
		return
	}
	if ref, ok := plain.(*bind.Ref); ok {
		m.addRef(file, ref)
	}
}

func (m *made) addRef(file string, ref *bind.Ref) {
	if ref.Type.Look == nil {
		return
	}
	data, err := m.registry.Encode(ref)
	if err != nil {
		return
	}
	one := Made{File: file, Key: ref.Type.Key(ref.Ptr), Data: data}
	if h, ok := ref.Ptr.(bind.Hosted); ok {
		one.Names = h.HostNames()
	}
	if !slices.ContainsFunc(m.list, func(o Made) bool { return o.File == file && o.Key == one.Key }) {
		m.list = append(m.list, one)
	}
}

// addJournaled adds the handles that a script's runs have journaled. One that can no
// longer be decoded is left out.
func (m *made) addJournaled(handles map[string][]json.RawMessage) {
	for _, file := range slices.Sorted(maps.Keys(handles)) {
		for _, raw := range handles[file] {
			v, err := m.registry.Decode(raw)
			if ref, ok := v.(*bind.Ref); ok && err == nil {
				m.addRef(file, ref)
			}
		}
	}
}

// examine examines what the job's handles refer to.
func (w *work) examine(ctx context.Context) (*Result, error) {
	redactor := w.redactor()
	out := []bind.Finding{}
	for _, raw := range w.job.Examine.Handles {
		v, err := w.registry.Decode(raw)
		if err != nil {
			return nil, err
		}
		ref, ok := v.(*bind.Ref)
		if !ok || ref.Type.Look == nil {
			continue
		}
		c := &bind.Call{
			Context: ctx, Clock: w.setup.Clock, Log: slog.New(slog.DiscardHandler), Network: w.network,
			Account: account.Open(w.job.State, bundle.Tenant(w.job.Playbook)), Secrets: w.link, Redactor: redactor,
			Function: ref.Type.Name, LogHost: func(string) {}, Progress: func(any) error { return nil },
		}
		for _, f := range ref.Type.Look(c, ref.Ptr, w.job.Examine.Names) {
			if f.Error != nil {
				f.Error = redacted(redactor, f.Error)
			}
			out = append(out, f)
		}
	}
	return &Result{Findings: out}, nil
}

func redacted(r *secret.Redactor, e *problem.Error) *problem.Error {
	out := r.Problem(e)
	out.Cause = nil
	return out
}

// Handles returns the handles in what a run has journaled.
func Handles(h *journal.History) []json.RawMessage {
	var out []json.RawMessage
	for _, e := range h.Effects {
		out = handlesIn(e.Args, out)
	}
	for _, s := range h.Steps {
		out = handlesIn(s.Result, out)
	}
	return out
}

// handlesIn adds the handles in a journaled value, inner ones too.
func handlesIn(raw json.RawMessage, out []json.RawMessage) []json.RawMessage {
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(raw, &object) == nil:
		if _, is := object["$handle"]; is {
			out = append(out, raw)
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			out = handlesIn(object[key], out)
		}
	case json.Unmarshal(raw, &list) == nil:
		for _, e := range list {
			out = handlesIn(e, out)
		}
	}
	return out
}
