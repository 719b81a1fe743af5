package reload_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"moonseal/runtime/reload"
)

// What is loaded once is what a Reloader would have live at its start.
func TestOnce(t *testing.T) {
	w := newWorld(t, map[string]string{
		"a.lua": script("1"), "b.lua": script("2"), "deadly.lua": script("3"), "t/c.lua": needy("4", "lib.x"), "t/lib/x.lua": "return {}",
	})
	var loads [][]string
	load := func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
		var names []string
		for name := range files {
			names = append(names, name)
		}
		slices.Sort(names)
		loads = append(loads, names)
		if files["deadly.lua"] != "" {
			return nil, errors.New("the process died")
		}
		return w.load(ctx, files)
	}
	o := reload.Options{Dir: w.dir, Load: load}
	s, err := reload.Once(t.Context(), o, nil)
	if err != nil || len(s.Playbooks) != 3 || s.Find("t/c") == nil || len(s.Problems) != 1 || s.Problem("deadly.lua") == nil {
		t.Fatalf("%s, %v", show(s), err)
	}
	loads = nil
	s, err = reload.Once(t.Context(), o, func(file string) bool { return file == "t/c.lua" })
	if err != nil || len(s.Playbooks) != 1 || s.Find("t/c") == nil || len(s.Problems) != 0 {
		t.Fatalf("%s, %v", show(s), err)
	}
	if len(loads) != 1 || !slices.Equal(loads[0], []string{"t/c.lua", "t/lib/x.lua"}) {
		t.Errorf("loaded %v for one script", loads)
	}
	o.Dir += "/none"
	if _, err := reload.Once(t.Context(), o, nil); err == nil {
		t.Error("a folder that is not there")
	}
}
