package reload_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"moonseal/runtime/reload"
)

// dying is a process that dies of each file with "bomb" in it.
func dying(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	for text := range maps.Values(files) {
		if strings.Contains(text, "bomb") {
			return nil, errors.New("the process died: killed")
		}
	}
	return inProcess(ctx, files)
}

func TestScriptThatEndsTheLoadingProcess(t *testing.T) {
	w := newWorld(t, map[string]string{"lib/x.lua": "return 1"})
	for i := range 200 {
		w.put(fmt.Sprintf("s%d.lua", i), needy("1", "lib.x"))
	}
	w.put("s77.lua", "-- bomb")
	w.load = dying
	w.start()
	s := w.r.Current()
	if e := s.Problem("s77.lua"); len(s.Playbooks) != 199 || e == nil || !strings.Contains(e.Error(), "killed") || len(s.Problems) != 1 {
		t.Fatalf("%d playbooks, %v", len(s.Playbooks), s.Problems)
	}
	w.put("s78.lua", "-- bomb")
	w.put("s79.lua", needy("2", "lib.x"))
	s, c := w.next()
	w.wantChanges(c, "", "s79", "")
	if s.Find("s78") == nil || s.Problem("s78.lua") == nil {
		t.Errorf("%v", s.Problems)
	}
}

func TestManyScriptsThatEndTheLoadingProcess(t *testing.T) {
	w := newWorld(t, nil)
	var calls atomic.Int64
	w.load = func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
		calls.Add(1)
		return dying(ctx, files)
	}
	for i := range 300 {
		w.put(fmt.Sprintf("s%d.lua", i), "-- bomb")
	}
	w.start()
	if s := w.r.Current(); len(s.Problems) != 300 || calls.Load() > 100 {
		t.Errorf("%d problems, %d calls", len(s.Problems), calls.Load())
	}
}

func TestReloadTriesAgain(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": "-- bomb\n" + script("1")})
	w.load = dying
	w.start()
	if s := w.r.Current(); len(s.Playbooks) > 0 {
		t.Fatalf("%s", show(s))
	}
	w.by(inProcess) // as when the config allows more memory
	if s := w.now(); s.Find("a") == nil || len(s.Problems) > 0 {
		t.Errorf("%s", show(s))
	}
}

func TestLastGoodVersionAcrossARestart(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": "nonsense(", "b.lua": "nonsense(", "c.lua": needy("2", "lib.x"), "d.lua": "nonsense(", "lib/x.lua": "return 2"})
	asked := map[string]int{}
	w.start(func(o *reload.Options) {
		o.Last = func(_ context.Context, file string) map[string]string {
			asked[file]++
			return map[string]map[string]string{
				"a.lua": {"a.lua": needy("1", "lib.x"), "lib/x.lua": "return 1", "moonseal.renew": "return 1"},
				"b.lua": {"b.lua": needy("1", "lib.x"), "lib/x.lua": "return 0"},
			}[file]
		}
	})
	s := w.r.Current()
	w.wantSchedule(s, "a", "1")
	w.wantSchedule(s, "b", "1")
	if len(s.Problems) != 3 || s.Find("a").Files()["lib/x.lua"] != "return 1" || s.Find("b").Files()["lib/x.lua"] != "return 0" {
		t.Errorf("%s", show(s))
	}
	w.put("a.lua", needy("3", "lib.x"))
	s, c := w.next()
	w.wantChanges(c, "", "a", "")
	w.wantSchedule(s, "a", "3")
	w.now()
	if asked["a.lua"] != 1 || asked["d.lua"] != 1 || asked["c.lua"] != 0 {
		t.Errorf("asked %v", asked)
	}
}

func TestNothingCanBeLoaded(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start()
	w.by(func(context.Context, map[string]string) (*reload.Loaded, error) {
		return nil, errors.New("no more processes")
	})
	w.put("a.lua", script("2"))
	s, c := w.next()
	w.wantChanges(c, "", "", "")
	if len(s.Problems) != 1 || s.Problems[0].Place != nil || s.Problem("a.lua") != nil {
		t.Errorf("%s", show(s))
	}
	if _, err := w.r.Reload(t.Context()); err == nil {
		t.Error("a Reload that loaded nothing did not fail")
	}
	w.by(inProcess)
	s = w.now()
	w.wantSchedule(s, "a", "2")
	if len(s.Problems) > 0 {
		t.Errorf("%s", show(s))
	}
}
