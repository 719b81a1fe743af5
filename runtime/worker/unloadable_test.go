package worker_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// unfinished is a run that has made the world's file, on a script that is now so.
func (w *world) unfinished(script string) string {
	w.t.Helper()
	ctx, id := w.t.Context(), w.journal.NewRunID()
	if err := appendLine(w.file); err != nil {
		w.t.Fatal(err)
	}
	args, err := json.Marshal(map[string]any{"recv": map[string]any{"$handle": "outside.Target@1", "data": map[string]string{"file": w.file}}, "args": map[string]any{}})
	if err != nil {
		w.t.Fatal(err)
	}
	s := journal.Stamp{Run: id, Epoch: 1, At: time.Now().UTC()}
	mark := journal.EffectMarked{Stamp: s, Fn: "outside.Target:keep", Args: args, Undo: &journal.UndoSpec{Fn: "outside.Target:keep", Args: args}}
	if err := w.journal.SaveBundle(ctx, id, []journal.Source{{Path: "p.lua", Body: []byte(script)}}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.journal.Write(ctx, journal.RunCreated{Stamp: s, Playbook: "p", Bundle: id}, journal.RunResumed{Stamp: s},
		journal.StepStarted{Stamp: s, Kind: "step", Name: "one", Attempt: 1}, mark, journal.EffectDone{Stamp: s, Result: json.RawMessage("true")}); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// A run whose scripts no longer load parks, and cancel and clean-up need no scripts.
func TestRunWhoseScriptsNoLongerLoad(t *testing.T) {
	for name, script := range map[string]string{
		"a module is gone":     `local gone = require "gone" return { run = function() end }`,
		"it raises":            `error "oops"`,
		"it is not a playbook": `return 1`,
		"it ends its process":  `local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1e6) .. i end return { run = function() end }`,
		"its body does":        `return { run = function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1e6) .. i end end }`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spawner, _ := w.parent.Spawner.(worker.Exec)
			spawner.Limits.Memory = 256 << 20
			w.parent.Spawner = spawner
			id := w.unfinished(script)
			if name != "it ends its process" && name != "its body does" {
				out, err := w.parent.Resume(t.Context(), worker.Job{State: w.journal.Dir()}, id)
				if err != nil || out.Status != journal.Parked || !strings.Contains(out.Reason, "no longer load") || lines(w.file) != 1 {
					t.Fatalf("%+v, %v", out, err)
				}
			}
			out, err := w.parent.Resume(t.Context(), worker.Job{State: w.journal.Dir(), Mode: run.Cancel}, id)
			undos, undosErr := w.journal.Undos(t.Context(), journal.UndoPending)
			if err != nil || out.Status != journal.Cancelled || lines(w.file) != 0 || undosErr != nil || len(undos) != 0 {
				t.Errorf("%+v, %v; left %+v", out, err, undos)
			}
		})
	}
}
