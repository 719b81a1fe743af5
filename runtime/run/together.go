package run

import (
	"context"
	"log/slog"
	"sync"

	"moonseal/runtime/bind"
)

// InvokeTogether implements [bind.Parallel]. Calls that are made in turn follow one another
// beside the others, and of those the first that fails is the last. What the calls log, and which hosts they
// concern, is noted once all are back, in the order of the calls: the journal must not
// depend on which was faster.
func (r *Run) InvokeTogether(invs []*bind.Invocation) ([]any, []error) {
	results, errs := make([]any, len(invs)), make([]error, len(invs))
	for i, inv := range invs {
		if errs[i] = r.mayLook(inv.Func); errs[i] != nil {
			return results, errs
		}
	}
	if r.opt.Reach != nil && len(invs) > 0 {
		if err := r.opt.Reach(); err != nil {
			errs[0] = &control{stop: err}
			return results, errs
		}
	}
	notes := make([]later, len(invs))
	panics := make([]any, len(invs))
	one := func(i int) (ok bool) {
		inv := invs[i]
		call := r.call(inv.Context, inv.Func)
		call.Log = slog.New(&laterHandler{&notes[i], r.scriptLog.Handler()})
		call.LogHost = func(host string) { notes[i].add(func() { r.logHost(host) }) }
		defer r.watchdog(inv.Context, inv.Func.Full())()
		defer func() { panics[i] = recover() }()
		results[i], errs[i] = inv.Func.Impl.Run(call, inv.Recv, inv.Args)
		return errs[i] == nil
	}
	var all sync.WaitGroup
	for _, turn := range turns(invs) {
		all.Go(func() {
			for _, i := range turn {
				if !one(i) {
					return
				}
			}
		})
	}
	all.Wait()
	for i := range notes {
		for _, note := range notes[i].all {
			note()
		}
		if panics[i] != nil {
			panic(panics[i]) // where the sandbox makes an error of it
		}
	}
	return results, errs
}

// turns returns which calls follow one another, by their places in the list.
func turns(invs []*bind.Invocation) [][]int {
	var out [][]int
	at := map[string]int{}
	for i, inv := range invs {
		name := inv.Func.Turn()
		n, known := at[name]
		if name == "" || !known {
			at[name] = len(out)
			out = append(out, []int{i})
			continue
		}
		out[n] = append(out[n], i)
	}
	return out
}

// mayLook refuses what may not be called now, or not beside other calls.
func (r *Run) mayLook(f *bind.Func) error {
	if f.Impl.Effect != nil || f.Impl.Phase != bind.InStep {
		return misuse(f.Full(), "called by together", "together only asks: what changes something is a call of its own")
	}
	return r.mayCall(f)
}

// later is what is done once all calls are back.
type later struct {
	mu  sync.Mutex // a call may log from several goroutines
	all []func()
}

func (l *later) add(note func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, note)
}

// laterHandler handles log lines later.
type laterHandler struct {
	notes *later
	next  slog.Handler
}

// Enabled implements [slog.Handler].
func (h *laterHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *laterHandler) Handle(ctx context.Context, rec slog.Record) error {
	rec = rec.Clone()
	h.notes.add(func() { _ = h.next.Handle(ctx, rec) })
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *laterHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &laterHandler{h.notes, h.next.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h *laterHandler) WithGroup(name string) slog.Handler {
	return &laterHandler{h.notes, h.next.WithGroup(name)}
}
