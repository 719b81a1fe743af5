package bundle

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// Playbook describes one playbook as its script returned it. It is plain data, and
// travels as JSON.
type Playbook struct {
	Name     string        `json:"name"` // tenant/name for a tenant's
	File     string        `json:"file"`
	Line     int           `json:"line"`              // where it is made
	Hash     string        `json:"hash"`              // SHA-256, in hex, over the sources that it needs
	Needs    []string      `json:"needs"`             // its sources: files, and embedded scripts by their names
	Schedule any           `json:"schedule,omitzero"` // string, or a table
	Window   any           `json:"window,omitzero"`   // string, or a table
	Timeout  time.Duration `json:"timeout,omitzero"`
	GiveUp   time.Duration `json:"give_up,omitzero"`
	Mode     string        `json:"mode,omitzero"`  // watch, ask or auto
	Locks    []string      `json:"locks,omitzero"` //
	Hooks    []string      `json:"hooks,omitzero"` // the keys of on, sorted
	Stages   []string      `json:"stages,omitzero"`
}

// Tenant is the folder that the playbook is in, "" for the top folder.
func (p *Playbook) Tenant() string { return Tenant(p.File) }

// key is a key of a playbook's table.
type key struct {
	read    func(*Playbook, lua.LValue) error // an error says what the value must be
	example string
}

// keys are the keys of a playbook's table.
//
//nolint:gochecknoglobals // never changed
var keys = map[string]key{
	"name":     {readName, `name = "cucm01"`},
	"run":      {readRun, "run = function(ctx) … end"},
	"schedule": {func(p *Playbook, v lua.LValue) (err error) { p.Schedule, err = textOrTable(v); return err }, `schedule = "17 3 * * *"`},
	"window":   {func(p *Playbook, v lua.LValue) (err error) { p.Window, err = textOrTable(v); return err }, `window = "Sat,Sun 22:00-05:00"`},
	"timeout":  {func(p *Playbook, v lua.LValue) (err error) { p.Timeout, err = positive(v); return err }, `timeout = "2h"`},
	"give_up":  {func(p *Playbook, v lua.LValue) (err error) { p.GiveUp, err = positive(v); return err }, `give_up = "7d"`},
	"mode":     {readMode, `mode = "ask"`},
	"locks":    {readLocks, `locks = { "cucm01" }`},
	"on":       {func(p *Playbook, v lua.LValue) (err error) { p.Hooks, err = functions(v, hooks); return err }, "on = { failure = function(ctx, err) … end }"},
	"stages":   {func(p *Playbook, v lua.LValue) (err error) { p.Stages, err = functions(v, nil); return err }, "stages = { verifying_certificate = function(ctx, s) … end }"},
}

var hooks = []string{"start", "step", "retry", "wait", "success", "failure", "finish"} //nolint:gochecknoglobals // never changed

// describe checks a playbook's table.
func describe(t *lua.LTable) (*Playbook, error) {
	p := &Playbook{}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		name := keyName(k)
		known, ok := keys[name]
		if !ok {
			return nil, refuse(name, "is not a known key"+suggest.Among(name, keyNames()), "playbook { name = …, run = function(ctx) … end }")
		}
		if err := known.read(p, v); err != nil {
			e := refuse(name, err.Error(), known.example)
			if inner, ok := errors.AsType[*problem.Error](err); ok {
				e.Key += inner.Key
			}
			return nil, e
		}
	}
	if t.RawGetString("run") == lua.LNil {
		return nil, refuse("run", "is missing", keys["run"].example)
	}
	return p, nil
}

// refuse returns the error of a key of a playbook's table.
func refuse(key, text, hint string) *problem.Error {
	e := problem.Invalid(key, text)
	e.Call, e.Hint = "playbook", hint
	return e
}

// keyName returns a key as an error's Key has it.
func keyName(k lua.LValue) string {
	if name, ok := k.(lua.LString); ok {
		return string(name)
	}
	return "[" + k.String() + "]"
}

func keyNames() []string {
	var out []string
	for name := range keys {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func readName(p *Playbook, v lua.LValue) error {
	name, ok := v.(lua.LString)
	if !ok || !validName.MatchString(string(name)) {
		return fmt.Errorf("must be letters, digits and - _ . (64 at most), got %s", show(v))
	}
	p.Name = string(name)
	return nil
}

func readRun(_ *Playbook, v lua.LValue) error {
	if v.Type() != lua.LTFunction {
		return fmt.Errorf("must be a function, got %s", show(v))
	}
	return nil
}

func readMode(p *Playbook, v lua.LValue) error {
	modes := []string{"watch", "ask", "auto"}
	text, _ := v.(lua.LString)
	if !slices.Contains(modes, string(text)) {
		return fmt.Errorf(`must be "watch", "ask" or "auto", got %s%s`, show(v), suggest.Phrase(string(text), modes))
	}
	p.Mode = string(text)
	return nil
}

func readLocks(p *Playbook, v lua.LValue) error {
	plain, err := plainData(v, 0)
	list, ok := plain.([]any)
	if text, one := plain.(string); one {
		list, ok = []any{text}, true
	}
	for _, e := range list {
		text, isText := e.(string)
		if !isText || text == "" {
			ok = false
		}
		p.Locks = append(p.Locks, text)
	}
	if err != nil || !ok {
		return fmt.Errorf("must be a name or a list of names, got %s", show(v))
	}
	return nil
}

// positive reads a duration that is longer than nothing.
func positive(v lua.LValue) (time.Duration, error) {
	text, ok := v.(lua.LString)
	if !ok {
		return 0, fmt.Errorf(`must be a duration such as "2h", got %s`, show(v))
	}
	d, err := duration.Parse(string(text))
	if err == nil && d <= 0 {
		err = fmt.Errorf("must be longer than nothing, got %s", show(v))
	}
	if err != nil {
		return 0, err
	}
	return d, nil
}

// functions checks a table of functions by name, and returns the names; known
// bounds them if it is not nil.
func functions(v lua.LValue, known []string) ([]string, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("must be a table of functions, got %s", show(v))
	}
	var names []string
	for k, f := t.Next(lua.LNil); k != lua.LNil; k, f = t.Next(k) {
		name := keyName(k)
		wrong := func(text string) error { return &problem.Error{Key: "." + name, Message: text} }
		if known != nil && !slices.Contains(known, name) {
			return nil, wrong(fmt.Sprintf("has no %s%s", show(k), suggest.Among(name, known)))
		}
		if f.Type() != lua.LTFunction {
			return nil, wrong(fmt.Sprintf("must be a table of functions, got %s for %s", show(f), name))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func textOrTable(v lua.LValue) (any, error) {
	switch v.(type) {
	case lua.LString, *lua.LTable:
		plain, err := plainData(v, 0)
		if err != nil {
			return nil, err
		}
		return plain, nil
	}
	return nil, fmt.Errorf("must be a string or a table, got %s", show(v))
}

// plainData turns texts, numbers, booleans, lists and tables with text keys into
// what encoding/json knows.
func plainData(v lua.LValue, depth int) (any, error) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), nil
	case lua.LNumber:
		return float64(v), nil
	case lua.LBool:
		return bool(v), nil
	case *lua.LTable:
		if depth > 8 {
			return nil, errors.New("is nested too deep")
		}
		return plainTable(v, depth)
	}
	return nil, fmt.Errorf("must be plain data, got %s", show(v))
}

func plainTable(t *lua.LTable, depth int) (any, error) {
	fields, list := map[string]any{}, []any{}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		plain, err := plainData(v, depth+1)
		if err != nil {
			return nil, err
		}
		switch key := k.(type) {
		case lua.LString:
			fields[string(key)] = plain
		case lua.LNumber:
			if float64(key) != float64(len(list)+1) {
				return nil, errors.New("is a list with a gap")
			}
			list = append(list, plain)
		default:
			return nil, errors.New("has a key that is not a string")
		}
	}
	switch {
	case len(list) > 0 && len(fields) > 0:
		return nil, errors.New("mixes a list with named values")
	case len(list) > 0:
		return list, nil
	}
	return fields, nil
}

// show returns a value as a message quotes it.
func show(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString:
		if len(v) > 40 {
			v = v[:40] + "…"
		}
		return fmt.Sprintf("%q", string(v))
	case lua.LNumber, lua.LBool, *lua.LNilType:
		return v.String()
	}
	return "a " + v.Type().String()
}
