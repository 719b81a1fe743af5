package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moonseal/modules"
	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
)

// TestFunctionExamples runs the documented example of every function, in one
// playbook, against a lab: each with what the examples before it have made.
func TestFunctionExamples(t *testing.T) {
	t.Parallel()
	s := newLabSite(t)
	source, steps := examplesPlaybook(t)
	s.script("examples", source)
	p := s.start("", "run", "examples", "--config", s.config(), "--force")
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d:\n%s\n%s", code, p.out.String(), source)
	}
	done := map[string]bool{}
	for _, s := range s.histories()[0].Steps {
		done[s.Name] = s.State == journal.StepIsDone
	}
	for _, name := range steps {
		if !done[name] {
			t.Errorf("step %q is not done", name)
		}
	}
	s.renewed()
}

// exampleOrder is where examples make sense that need what others give. The rest
// comes after them, in the order of the modules.
func exampleOrder() []string {
	return []string{
		"cucm.node", "dns.zone", "acme.ca", "cucm.Node:identity", "cucm.Node:pending_csr", "cucm.Node:issued", "acme.CA:renewal",
		"cucm.Node:csr", "acme.CA:account", "acme.CA:issued", "acme.Account:order", "acme.Account:state",
		"dns.Zone:present", "dns.Zone:propagated", "dns.Zone:records", "acme.Account:validate", "acme.Account:finalize", "dns.Zone:remove",
		"cucm.Node:upload", "cucm.Node:has", "cucm.Node:restart", "cucm.Node:serves",
	}
}

var (
	firstLocal = regexp.MustCompile(`^local (\w+) =`)
	stepName   = regexp.MustCompile(`ctx:(?:step|poll)\("([^"]+)"`)
)

// examplesPlaybook returns a playbook of all examples, and the steps it must do. An
// example without steps of its own runs inside one, whose result is its first local.
func examplesPlaybook(t *testing.T) (source string, steps []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("local acme, cucm, dns, log = require \"acme\", require \"cucm\", require \"dns\", require \"log\"\n" +
		"return playbook { name = \"examples\", run = function(ctx)\n")
	for _, f := range orderedFunctions(t) {
		example := strings.TrimSpace(f.Example)
		if example == "" {
			t.Errorf("%s has no example", f.Full())
			continue
		}
		if own := stepName.FindStringSubmatch(example); own != nil {
			steps = append(steps, own[1])
			fmt.Fprintf(&b, "-- %s\n%s\n", f.Full(), example)
			continue
		}
		steps = append(steps, f.Full())
		assign, give := "", ""
		if m := firstLocal.FindStringSubmatch(example); m != nil {
			assign, give = "local "+m[1]+" = ", "return "+m[1]
		}
		fmt.Fprintf(&b, "%sctx:step(%q, function()\n%s\n%s\nend)\n", assign, f.Full(), example, give)
	}
	b.WriteString("end }\n")
	return b.String(), steps
}

func orderedFunctions(t *testing.T) []*bind.Func {
	t.Helper()
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		t.Fatal(err)
	}
	var all []*bind.Func
	for _, m := range reg.Modules {
		all = append(all, m.Functions...)
		for _, h := range m.Types {
			all = append(all, h.Methods...)
		}
	}
	order := exampleOrder()
	for _, name := range order {
		if !slices.ContainsFunc(all, func(f *bind.Func) bool { return f.Full() == name }) {
			t.Errorf("there is no function %s", name)
		}
	}
	place := func(f *bind.Func) int {
		if i := slices.Index(order, f.Full()); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(all, func(a, b *bind.Func) int { return place(a) - place(b) })
	return all
}
