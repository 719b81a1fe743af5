package run_test

import (
	"strings"
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

func TestGivingUpAsksTheProbe(t *testing.T) {
	once := `{ retry = 1 }, function() return world.thing { name = "a" }:`
	unsure := &problem.Error{Kind: problem.Unavailable, Message: "reset"}
	for _, c := range []struct {
		name, call string
		lost       bool // the work is done
		blind      bool
		want       journal.Status
	}{
		{"surely not done", once + "make() end", false, false, journal.Failed},
		{"done", once + "make() end", true, false, journal.Done},
		{"cannot tell", once + "make() end", true, true, journal.Parked},
		{"no probe", once + "blindly() end", false, false, journal.Parked},
		{"repeatable", once + "again() end", false, false, journal.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, strings.Replace(script(`ctx:step("one", `+c.call+`)`), "run =", `give_up = 0, run =`, 1))
			l.world.blind["a"] = c.blind
			if c.lost {
				l.world.lost["a"] = true
			} else {
				l.world.fail["a"] = unsure
			}
			out := l.must(l.process(t.Context()))
			if out.Status != c.want {
				t.Errorf("%+v, want %s", out, c.want)
			}
		})
	}
}
