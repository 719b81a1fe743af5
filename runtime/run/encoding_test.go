package run_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// A handle and its arguments as an older build knows them, and as a newer one does.
type (
	oldParcel struct {
		Name string `lua:"name" doc:"its name"`
	}
	newParcel struct {
		Size int    `lua:"size,optional" default:"7" doc:"in litres"`
		Name string `lua:"name" doc:"its name"`
		Note string `lua:"note,optional" doc:"what stands on it"`
	}
	oldSend struct {
		What any `lua:"what" doc:"what is in it"`
	}
	newSend struct {
		What any    `lua:"what" doc:"what is in it"`
		By   string `lua:"by,optional" default:"mail" doc:"how"`
		Fast bool   `lua:"fast,optional" doc:"at once"`
	}
)

// post is a module of one build; sent is its world.
func post[P, A any](sent map[string]int, halves *int) *bind.Module {
	name := func(p *P) string { return reflect.ValueOf(p).Elem().FieldByName("Name").String() }
	do := func(c *bind.Call, p *P, _ *A, _ any) (string, error) {
		if len(c.Earlier) == 0 {
			*halves++
			if err := c.Progress(map[string]string{"of": name(p)}); err != nil {
				return "", err
			}
		}
		sent[name(p)]++
		return "receipt " + name(p), nil
	}
	probe := func(_ *bind.Call, p *P, _ *A, _ any) (string, bool, error) {
		return "receipt " + name(p), sent[name(p)] > 0, nil
	}
	return &bind.Module{
		Name: "post", Doc: "Sends parcels.",
		Functions: []*bind.Func{{
			Name: "parcel", Doc: "names one", Returns: "it", Example: "x", Table: true,
			Impl: bind.Pure(func(p *P) (*P, error) { return p, nil }),
		}},
		Types: []*bind.Type{bind.Handle[P]("post.Parcel", 1, "A parcel.",
			&bind.Func{Name: "send", Doc: "sends", Returns: "a receipt", Example: "x", Impl: bind.Effectful(bind.Effect[P, A, any, string]{Do: do, Probe: probe})},
			&bind.Func{Name: "throw", Doc: "sends blindly", Returns: "a receipt", Example: "x", Impl: bind.Effectful(bind.Effect[P, A, any, string]{Do: do})},
		)},
	}
}

// A call whose answer was lost is found by the next process, whatever its arguments
// are made of, and by the next build, which knows fields more.
func TestMarkIsFoundAgain(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	const name = "# Issuer: O=R&D <x>\u2028\\n\\\"y\\\" \\\\ \\0\\255"
	for _, what := range []string{
		`"AT&T"`, `0.1`, `1e21`, `-0.0`, `2^53 - 1`, `{ "a", { b = "<&>", a = 1 } }`, `{ ["$x"] = {}, [" "] = "\u2028" }`,
	} {
		for _, p := range []run.Point{run.AfterMark, run.AfterAnswer} {
			for _, upgraded := range []bool{false, true} {
				sent, halves := map[string]int{}, 0
				l := newLab(t, script(fmt.Sprintf(`ctx:step("one", function() return post.parcel { name = "%s" }:send(%s) end)`, name, what)))
				l.modules = []*bind.Module{post[oldParcel, oldSend](sent, &halves)}
				l.killAt(p, "post.Parcel:send", 1)
				if out, err := l.process(t.Context()); out != nil {
					t.Fatalf("not killed: %+v, %v", out, err)
				}
				l.trace = nil
				if upgraded {
					l.modules = []*bind.Module{post[newParcel, newSend](sent, &halves)}
				}
				out := l.must(l.process(t.Context()))
				total := 0
				for _, n := range sent {
					total += n
				}
				if out.Status != journal.Done || total != 1 {
					t.Errorf("%s, %s, upgraded %v: %+v, sent %v", what, p, upgraded, out, sent)
				}
				result := l.history().Steps[0].Result
				if !json.Valid(result) || !strings.Contains(string(result), "receipt") && !strings.Contains(string(result), "$bytes") {
					t.Errorf("%s: the result is %s", what, result)
				}
			}
		}
	}
}

// So is how far it came.
func TestProgressIsFoundAgain(t *testing.T) {
	for _, upgraded := range []bool{false, true} {
		sent, halves := map[string]int{}, 0
		l := newLab(t, script(`ctx:step("one", function() return post.parcel { name = "R&D" }:send { "<&>" } end)`))
		l.modules = []*bind.Module{post[oldParcel, oldSend](sent, &halves)}
		l.killAt(run.AfterAnswer, "post.Parcel:send", 1)
		_, _ = l.process(t.Context())
		l.trace = nil
		clear(sent) // the probe says: not done
		if upgraded {
			l.modules = []*bind.Module{post[newParcel, newSend](sent, &halves)}
		}
		if out := l.must(l.process(t.Context())); out.Status != journal.Done || sent["R&D"] != 1 || halves != 1 {
			t.Errorf("upgraded %v: %+v, sent %v, begun %d times", upgraded, out, sent, halves)
		}
	}
}

// A call that cannot be asked about is not made a second time.
func TestMarkWithoutProbeIsFoundAgain(t *testing.T) {
	sent, halves := map[string]int{}, 0
	l := newLab(t, script(`ctx:step("one", function() return post.parcel { name = "R&D" }:throw { "<&>" } end)`))
	l.modules = []*bind.Module{post[oldParcel, oldSend](sent, &halves)}
	l.killAt(run.AfterAnswer, "post.Parcel:throw", 1)
	_, _ = l.process(t.Context())
	l.trace, l.modules = nil, []*bind.Module{post[newParcel, newSend](sent, &halves)}
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || sent["R&D"] != 1 {
		t.Errorf("%+v, sent %v", out, sent)
	}
}
