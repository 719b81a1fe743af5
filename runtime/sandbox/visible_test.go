package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// someKnown is a module "cucm" whose node uploads, and "dns" whose zone is looked at.
type someKnown struct{}

func (someKnown) Module(name string) bool { return name == "cucm" || name == "dns" }

func (someKnown) Result(function string) string {
	return map[string]string{"cucm.node": "cucm.Node", "dns.zone": "dns.Zone", "cucm.Node:cluster": "cucm.Cluster", "cucm.Cluster:first": "cucm.Node"}[function]
}

func (someKnown) Changes(function string) bool { return function == "cucm.Node:upload" }

// What a step or a poll does wrong is refused while the script is loaded, if it can be
// seen; what only looks like it is not.
func TestVisible(t *testing.T) {
	const before = "local node = cucm.node { host = 'a' }\nlocal s, list, Step = { due = false, deep = {} }, {}, {}\n"
	for body, want := range map[string]string{
		`ctx:step("a", function() s.due = true end)`:                                                                            `:4: the step's function changes a table from outside of it, "s"`,
		`ctx:step("a", { key = "b" }, function() s.deep.x = 1 end)`:                                                             `changes a table from outside of it, "s"`,
		`ctx:step("a", function() table.insert(list, 1) end)`:                                                                   `changes a table from outside of it, "list"`,
		`ctx:step("a", function() rawset(list, 1, 2) end)`:                                                                      `changes a table from outside of it, "list"`,
		`ctx:step("a", function() local function f() list[1] = 2 end f() end)`:                                                  `changes a table from outside of it, "list"`,
		`ctx:step("a", function() function s.f() end end)`:                                                                      `changes a table from outside of it, "s"`,
		`ctx:step("a", function() function s:f() end end)`:                                                                      `changes a table from outside of it, "s"`,
		`ctx:step("a", function() if true then for i = 1, 2 do s = i end end end)`:                                              `assigns the outer variable "s"`,
		`ctx:step("a", function() due = true end)`:                                                                              `assigns the global variable "due"`,
		`ctx:poll("a", function() s.due = true return s.due end)`:                                                               `changes a table from outside of it, "s"`,
		`ctx:poll("a", function() return node:upload() end)`:                                                                    `:4: cucm.Node:upload: called inside a poll`,
		`ctx:poll("a", function() local n = node return n:upload() end)`:                                                        `called inside a poll`,
		`ctx:poll("a", function() return cucm.node { host = "b" }:upload() end)`:                                                `called inside a poll`,
		`ctx:poll("a", function() return pcall(function() node:upload() end) end)`:                                              `called inside a poll`,
		`local n = ctx:step("c", function() return node:cluster():first() end) ctx:poll("a", function() return n:upload() end)`: `called inside a poll`,

		`ctx:step("a", function() node:upload() end)`:                                                                         ``,
		`ctx:step("a", function() local s = {} s.due = true table.insert(s, 1) return s end)`:                                 ``,
		`ctx:step("a", function() local t = {} for _, v in pairs(list) do v = 1 t[v] = v end return t end)`:                   ``,
		`ctx:step("a", function() local function add(s) s.x = 1 return s end return add({}) end)`:                             ``,
		`s.due = ctx:step("a", function() return true end) list[1] = 2`:                                                       ``,
		`local function helper() s.due = true end ctx:step("a", function() return 1 end) helper()`:                            ``,
		`ctx:poll("a", function() node = {} return node:upload() end)`:                                                        `assigns the outer variable "node"`,
		`local node = { upload = function() end } ctx:poll("a", function() return node:upload() end)`:                         ``,
		`local node = ctx:step("n", function() return { upload = 1 } end) ctx:poll("a", function() return node:upload() end)`: ``,
		`ctx:poll("a", function() local table = { insert = function() end } table.insert(list, 1) return 1 end)`:              ``,
		`Step:step("a", "b")`: ``,
	} {
		source := before + "return playbook { name = 'x', run = function(ctx)\n" + body + "\nend }"
		err := sandbox.CheckVisible("x.lua", source, someKnown{})
		got := ""
		if err != nil {
			e := problem.From(err)
			got = fmt.Sprintf("%s:%d: %s", e.Place.File, e.Place.Line, e)
			if e.Kind != problem.Usage || e.Place.Source == "" {
				t.Errorf("%s: %+v", body, e)
			}
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", body, got, want)
		}
	}
}
