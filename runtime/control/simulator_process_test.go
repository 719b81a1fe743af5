package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// wire is the journal of a process: its records are packed and unpacked on their way,
// and lazy ones wait in the process for others to go with, as runtime/worker has it.
type wire struct {
	journal *journal.Journal
	held    []byte
	dead    bool
	synced  func()
}

func (w *wire) Write(ctx context.Context, recs ...journal.Record) error {
	if w.dead {
		return errors.New("a record of a process that is dead")
	}
	lazy, err := unpack(w.held)
	if err != nil {
		return err
	}
	w.held = nil
	packed, err := pack(nil, recs)
	if err != nil {
		return err
	}
	if recs, err = unpack(packed); err != nil {
		return err
	}
	err = w.journal.WriteAfter(ctx, lazy, recs)
	if err == nil {
		w.synced()
	}
	return err
}

func (w *wire) WriteLazy(_ context.Context, recs ...journal.Record) (err error) {
	if !w.dead {
		w.held, err = pack(w.held, recs)
	}
	return err
}

// flush sends what waits.
func (w *wire) flush() error {
	lazy, err := unpack(w.held)
	w.held = nil
	if err != nil || len(lazy) == 0 || w.dead {
		return err
	}
	return w.journal.WriteLazy(context.Background(), lazy...)
}

func (w *wire) HeldBy(ctx context.Context, values []string, except string) (map[string]string, error) {
	return w.journal.HeldBy(ctx, values, except)
}

func pack(b []byte, recs []journal.Record) (_ []byte, err error) {
	for _, rec := range recs {
		if b, err = journal.Pack(b, rec); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func unpack(b []byte) (recs []journal.Record, err error) {
	for len(b) > 0 {
		var rec journal.Record
		if rec, b, err = journal.Unpack(b); err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// process is one process that takes a run up.
type process struct {
	wire    *wire
	source  string
	world   *simWorld
	clock   *wallClock
	dir     string
	history *journal.History
	mode    run.Mode
	upgrade bool
	drain   chan struct{}
	trace   func(run.Point, string)

	out    *run.Outcome
	err    error
	killed bool
	broken any // a panic
}

// run returns when the process has ended, one way or another.
func (p *process) run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { p.broken = recover() }()
		p.killed = true // unless it returns
		p.out, p.err = p.execute(ctx)
		p.killed = false
	}()
	<-done
	if p.killed && p.broken == nil {
		p.wire.dead = true
	}
}

// kill ends the goroutine of the process.
func kill() { runtime.Goexit() }

func (p *process) execute(ctx context.Context) (*run.Outcome, error) {
	history, err := sent(p.history)
	if err != nil {
		return nil, err
	}
	reg, err := p.world.registry(p.upgrade)
	if err != nil {
		return nil, err
	}
	network, err := grant.New(grant.Options{})
	if err != nil {
		return nil, err
	}
	state := sandbox.New(ctx, sandbox.Options{Source: func(string) (string, bool) { return p.source, true }})
	defer state.Close()
	r := run.New(state, run.Options{
		Registry: reg, History: history, Journal: p.wire, Clock: p.clock, Network: network, Account: account.Open(p.dir, ""),
		Logger: slog.New(slog.DiscardHandler), Secrets: secret.Map{}, Redactor: &secret.Redactor{},
		Jitter: func() float64 { return 0.5 }, Trace: p.trace, Mode: p.mode, Drain: p.drain, Reach: p.wire.flush,
	})
	table, err := load(ctx, state, r.Binding(), p.source)
	if err != nil {
		return nil, err
	}
	book, err := run.ReadPlaybook(state.L, p.history.Run.Playbook, table)
	if err != nil {
		return nil, err
	}
	return r.Execute(ctx, book)
}

func load(ctx context.Context, state *sandbox.State, b *bind.Binding, source string) (*lua.LTable, error) {
	state.SetGlobal("world", b.Module("world"))
	for k, v := range b.Globals() {
		state.SetGlobal(k, v)
	}
	proto, err := sandbox.Compile("p.lua", source)
	if err != nil {
		return nil, err
	}
	values, err := state.Call(ctx, state.L, state.L.NewFunctionFromProto(proto))
	if err != nil {
		return nil, err
	}
	table, ok := values[0].(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the playbook returns a %s", values[0].Type())
	}
	return table, nil
}

// sent is a history as it reaches a process.
func sent(h *journal.History) (*journal.History, error) {
	raw, err := journal.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := &journal.History{}
	return out, json.Unmarshal(raw, out)
}
