package matrix

import (
	"slices"
	"strings"
	"testing"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// refusal is a permanent problem: the run fails, and its error says what happened and
// what to do.
type refusal struct {
	name    string
	script  dropIn
	world   func(*lab.Options)
	arrange func(t *testing.T, r *renewal)

	step  string
	kind  problem.Kind
	says  []string // parts of the error's line
	hint  []string
	check func(t *testing.T, r *renewal, l *lab.Ledger) // what happened at the site until then
	// fix does what the hint says; then the next run ends well, at no cost of a further
	// certificate unless again is set.
	fix   func(t *testing.T, r *renewal)
	again bool
}

// after calls do once a step is done, before the next begins.
func (r *renewal) after(step string, do func()) {
	names := map[int]string{}
	r.watch = func(rec journal.Record) {
		switch rec := rec.(type) {
		case journal.StepStarted:
			names[rec.Step] = rec.Name
		case journal.StepDone:
			if names[rec.Step] == step {
				do()
			}
		}
	}
}

// before calls do when a node or a server has got a call and not worked on it.
func (r *renewal) before(t *testing.T, call string, do func()) {
	t.Helper()
	set := r.world.Faults()
	id := r.fault(t, faults.Fault{Call: call, Kind: faults.HoldBefore})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if set.WaitHeld(t.Context(), id) == nil {
			do()
			_ = set.Release(id)
		}
	}()
	t.Cleanup(func() { <-done })
}

// count counts calls.
func (r *renewal) count(t *testing.T, call string) func() int {
	t.Helper()
	id := r.fault(t, faults.Fault{Call: call, Kind: faults.Delay, Times: -1})
	return func() int { return r.hits(id) }
}

func (r *renewal) behave(t *testing.T, change func(*cucmtest.Behavior)) {
	t.Helper()
	if err := r.node().Configure(change); err != nil {
		t.Fatal(err)
	}
}

// otherCSR is another administrator's signing request.
func (r *renewal) otherCSR(t *testing.T) {
	t.Helper()
	if _, err := r.node().GenerateCSR("tomcat"); err != nil {
		t.Error(err)
	}
}

func healed(t *testing.T, r *renewal) {
	t.Helper()
	r.behave(t, func(b *cucmtest.Behavior) { *b = cucmtest.Behavior{RestartOutage: b.RestartOutage} })
}

func TestRefusals(t *testing.T) {
	for _, c := range slices.Concat(accountRefusals(), csrRefusals(), uploadRefusals(), dnsRefusals(), caRefusals(), restartRefusals()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.play(t)
		})
	}
}

func (c refusal) play(t *testing.T) {
	t.Helper()
	var options []func(*lab.Options)
	if c.world != nil {
		options = append(options, c.world)
	}
	s := newSite(t, options...)
	s.secrets.set("WRONG", strings.ToLower(s.world.Env("CF_API_TOKEN")))
	r := s.renewal(t, c.script, patient())
	if c.arrange != nil {
		c.arrange(t, r)
	}
	out := r.toTheEnd(t)
	e := out.Error
	if out.Status != journal.Failed || e == nil {
		t.Fatalf("%s: %s: %v", out.Status, out.Reason, e)
	}
	t.Logf("%s: %s\nhint: %s", e.Step, e, e.Hint)
	if e.Kind != c.kind || e.Step != c.step || e.Call == "" || e.Target == "" || e.Message == "" {
		t.Errorf("got %+v", e)
	}
	contains(t, "the error", e.Error(), c.says)
	contains(t, "the hint", e.Hint, c.hint)
	l := s.look(t)
	r.spotless(t, l)
	if c.check != nil {
		c.check(t, r, l)
	}
	if c.fix != nil {
		c.repair(t, r, len(l.Certificates))
	}
}

func contains(t *testing.T, what, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not say %q: %s", what, part, text)
		}
	}
	if len(parts) == 0 && text != "" {
		t.Errorf("%s says something after all: %s", what, text)
	}
}

// spotless checks that a run that failed has left nothing behind, and has done
// nothing twice.
func (r *renewal) spotless(t *testing.T, l *lab.Ledger) {
	t.Helper()
	accepted := 0
	for _, u := range l.Uploads {
		if u.Kind == cucmtest.IdentityUpload && u.Accepted {
			accepted++
		}
	}
	if accepted > 1 || len(l.Certificates) > 1 || len(l.Orders) > 1 {
		t.Errorf("%d uploads, %d certificates, %d orders", accepted, len(l.Certificates), len(l.Orders))
	}
	if left := r.leftOver(r.state); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	undos, err := r.journal.Undos(t.Context(), journal.UndoPending)
	if err != nil || len(undos) > 0 {
		t.Errorf("undos: %+v, %v", undos, err)
	}
}

// repair runs again, after the problem was fixed.
func (c refusal) repair(t *testing.T, r *renewal, had int) {
	t.Helper()
	r.world.Faults().Clear()
	r.watch = nil
	c.fix(t, r)
	r.job.Files = map[string]string{"renewal.lua": c.script.source()}
	out := r.toTheEnd(t)
	if out.Status != journal.Done {
		t.Fatalf("fixed, and yet %s: %s: %v", out.Status, out.Reason, out.Error)
	}
	l := r.look(t)
	r.spotless(t, l)
	want := 1
	if !c.again {
		want -= had
	}
	if len(l.Certificates) != want {
		t.Errorf("the next run got %d certificates, want %d", len(l.Certificates), want)
	}
	if l.Served[pub] != l.Installed[pub] || l.Served[pub] == "" {
		t.Errorf("installed %s, served %s", l.Installed[pub], l.Served[pub])
	}
}
