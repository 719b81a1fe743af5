package control_test

import (
	"moonseal/runtime/bind"
)

// thing and its arguments, as one version of moonseal has them, and as the next one
// does: with one optional field more.
type (
	thing1 struct {
		Name string `lua:"name" doc:"its name"`
		Data string `lua:"data,optional" doc:"what is in it"`
	}
	thing2 struct {
		Name string `lua:"name" doc:"its name"`
		Data string `lua:"data,optional" doc:"what is in it"`
		Site string `lua:"site,optional" doc:"where it stands"`
	}
	args1 struct {
		Data string `lua:"data,optional" doc:"what is in it"`
	}
	args2 struct {
		Data string `lua:"data,optional" doc:"what is in it"`
		Mode string `lua:"mode,optional" default:"safe" doc:"how"`
	}
	noArgs struct{}
	place  struct {
		Step string `lua:"step" doc:"where it is"`
	}
)

func (t *thing1) called() (name, data string) { return t.Name, t.Data }
func (t *thing2) called() (name, data string) { return t.Name, t.Data }
func (a *args1) data() string                 { return a.Data }
func (a *args2) data() string                 { return a.Data }

// registry returns the world's functions, as of an old or a new moonseal.
func (w *simWorld) registry(upgraded bool) (*bind.Registry, error) {
	if upgraded {
		return bind.NewRegistry(module[thing2, args2](w))
	}
	return bind.NewRegistry(module[thing1, args1](w))
}

func module[T, A any](w *simWorld) *bind.Module {
	return &bind.Module{
		Name: "world", Doc: "The simulated outside.",
		Functions: []*bind.Func{{
			Name: "thing", Doc: "names a thing", Returns: "it", Example: "x", Table: true,
			Impl: bind.Pure(func(t *T) (*T, error) { return t, nil }),
		}, {
			Name: "at", Doc: "notes how far the script comes", Example: "x",
			Impl: bind.Pure(func(s *place) (bool, error) {
				w.reached[s.Step] = true
				return true, nil
			}),
		}},
		Types: []*bind.Type{bind.Handle[T](
			"world.Thing", 1, "A thing.",
			change[T, A](w, "make", bind.Effect[T, A, string, made]{Probe: probe[T, A](w, "make"), Undo: undo[T, A](w, "make")}),
			change[T, A](w, "blind", bind.Effect[T, A, string, made]{}),
			change[T, A](w, "keep", bind.Effect[T, A, string, made]{Undo: undo[T, A](w, "keep")}),
			change[T, A](w, "again", bind.Effect[T, A, string, made]{Undo: undo[T, A](w, "again"), Repeatable: true}),
			change[T, A](w, "restart", bind.Effect[T, A, string, made]{Probe: probe[T, A](w, "restart"), Disruptive: true}),
			change[T, A](w, "knock", bind.Effect[T, A, string, made]{Disruptive: true}),
			ask("ready", func(t *T) (any, error) {
				if err := w.look(any(t).(named)); err != nil {
					return nil, err
				}
				name, _ := any(t).(named).called()
				w.polled[name]++
				return bind.Verdict{OK: w.polled[name]%4 == 3, Reason: "not yet"}, nil
			}),
			ask("tick", func(t *T) (any, error) {
				w.ticks++
				_, data := any(t).(named).called()
				return data + string(rune('a'+w.ticks%26)), w.look(any(t).(named))
			}),
			ask("made", func(t *T) (any, error) {
				name, _ := any(t).(named).called()
				if w.part(name) < w.whole(name) {
					return bind.Verdict{Reason: "it is not there"}, nil
				}
				return bind.Verdict{OK: true, Value: w.result(name)}, w.look(any(t).(named))
			}),
		)},
	}
}

func ask[T any](name string, run func(*T) (any, error)) *bind.Func {
	return &bind.Func{
		Name: name, Doc: name, Returns: "what is seen", Example: "x",
		Impl: bind.Read(func(_ *bind.Call, t *T, _ *noArgs) (any, error) { return run(t) }),
	}
}

func change[T, A any](w *simWorld, fn string, e bind.Effect[T, A, string, made]) *bind.Func {
	e.Look = func(_ *bind.Call, t *T, _ *A) (string, *made, error) { return "seen <&>", nil, w.look(any(t).(named)) }
	e.Do = func(c *bind.Call, t *T, a *A, _ string) (made, error) {
		return w.do(c, fn, any(t).(named), any(a).(interface{ data() string }).data())
	}
	return &bind.Func{Name: fn, Doc: fn, Returns: "what was made", Example: "x", Impl: bind.Effectful(e)}
}

func probe[T, A any](w *simWorld, fn string) func(*bind.Call, *T, *A, string) (made, bool, error) {
	return func(c *bind.Call, t *T, _ *A, _ string) (made, bool, error) { return w.probe(c, fn, any(t).(named)) }
}

func undo[T, A any](w *simWorld, fn string) func(*bind.Call, *T, *A, *made) error {
	return func(_ *bind.Call, t *T, _ *A, _ *made) error { return w.undo(fn, any(t).(named)) }
}
