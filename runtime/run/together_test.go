package run_test

import (
	"strings"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// meeting returns the lab of a step in which things a, b and c meet, and last.
func meeting(t *testing.T, last string) *lab {
	t.Helper()
	l := newLab(t, script(`
		ctx:step("look", function()
			local calls = {}
			for i, name in ipairs { "a", "b", "c", `+last+` } do
				local thing = world.thing { name = name }
				calls[i] = { thing.meet, thing }
			end
			return { together(unpack(calls)) }
		end)`))
	l.world.meeting, l.world.met = 4, make(chan struct{})
	return l
}

// Calls that are made together wait for one another, and what they leave is in the order
// of the list.
func TestTogether(t *testing.T) {
	l := meeting(t, `"d"`)
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	h := l.history()
	if got := string(h.Steps[0].Result); got != `["a","b","c","d"]` {
		t.Errorf("the result is %s", got)
	}
	if got, want := metIn(t, l), "met a, met b, met c, met d"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func metIn(t *testing.T, l *lab) string {
	t.Helper()
	log, err := l.journal.Logs(t.Context(), l.id, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range log {
		if strings.HasPrefix(line.Message, "met ") {
			lines = append(lines, line.Message)
		}
	}
	return strings.Join(lines, ", ")
}

// Of several errors it is that of the first in the list.
func TestTogetherFails(t *testing.T) {
	l := meeting(t, `"d"`)
	l.world.fail["meet b"] = &problem.Error{Kind: problem.Refused, Message: "b stays away"}
	l.world.fail["meet d"] = &problem.Error{Kind: problem.Auth, Message: "d too"}
	out, err := l.process(t.Context())
	if err != nil || out.Status != journal.Failed || !strings.Contains(out.Error.Error(), "world.Thing:meet: b stays away") {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestTogetherPanics(t *testing.T) {
	l := meeting(t, `"panic"`)
	out, err := l.process(t.Context())
	if err != nil || out.Error == nil || !strings.Contains(out.Error.Error(), "panic: a meeting") {
		t.Errorf("%+v, %v", out, err)
	}
}

// What changes something is not done beside other calls, and nothing outside of a step.
func TestTogetherOnlyLooks(t *testing.T) {
	for body, want := range map[string]string{
		`local t = world.thing { name = "a" }; ctx:step("x", function() return together({ t.make, t }) end)`: "world.Thing:make: called by together",
		`ctx:step("x", function() return together({ world.say, { name = "a" } }) end)`:                       "world.say: called by together",
		`local t = world.thing { name = "a" }; together({ t.meet, t })`:                                      "world.Thing:meet: called outside of a step",
	} {
		l := newLab(t, script(body))
		out, err := l.process(t.Context())
		if err != nil || out.Error == nil || !strings.Contains(out.Error.Error(), want) {
			t.Errorf("%s: %+v, %v", body, out, err)
		}
		if len(l.world.made) > 0 {
			t.Errorf("%s: made %v", body, l.world.made)
		}
	}
}

// door is a handle whose methods are called in turn.
type door struct {
	Name string `lua:"name" doc:"its name"`
}

// Calls that are made in turn follow one another, and after one that fails there is none.
func TestTogetherInTurn(t *testing.T) {
	var opened []string
	open := func(_ *bind.Call, d *door, _ *none) (string, error) {
		opened = append(opened, d.Name) // no lock: the race detector sees two at once
		if d.Name == "locked" {
			return "", &problem.Error{Kind: problem.Auth, Message: "the key does not fit"}
		}
		return d.Name, nil
	}
	doors := bind.Handle[door]("doors.Door", 1, "A door.", &bind.Func{Name: "open", Doc: "opens it", Returns: "its name", Example: "x", Impl: bind.Read(open)})
	doors.InTurn = true
	l := newLab(t, script(`
		ctx:step("open", function()
			local thing, calls = world.thing { name = "beside" }, {}
			for _, name in ipairs { "a", "b", "locked", "c" } do
				local d = doors.door { name = name }
				calls[#calls + 1] = { d.open, d }
			end
			return together({ thing.host, thing }, unpack(calls))
		end)`))
	l.modules = append(l.modules, &bind.Module{Name: "doors", Doc: "Doors.", Types: []*bind.Type{doors}, Functions: []*bind.Func{
		{Name: "door", Doc: "a door", Returns: "it", Example: "x", Table: true, Impl: bind.Pure(func(d *door) (*door, error) { return d, nil })},
	}})
	out, err := l.process(t.Context())
	if err != nil || out.Error == nil || !strings.Contains(out.Error.Error(), "doors.Door:open: the key does not fit") {
		t.Errorf("%+v, %v", out, err)
	}
	if got := strings.Join(opened, " "); got != "a b locked" {
		t.Errorf("opened %s", got)
	}
}
