package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// remote is the operator that is the daemon's client.
type remote struct {
	*api.Client

	wire *wiring
}

// remote returns the client of the config's daemon. It speaks for the user behind sudo.
func (a *app) remote(cfg *config.Config) *remote {
	warned := false
	otherBuild := func(daemon string) {
		if warned {
			return
		}
		warned = true
		_, _ = plain.Fprintf(a.stderr, "moonseal: the daemon is moonseal %s, this command is moonseal %s\nhint: restart the daemon: systemctl restart moonseal\n",
			cmp.Or(daemon, "of an older version"), a.build)
	}
	return &remote{api.Dial(cfg.Listen.Socket).As(a.getenv("SUDO_USER")).Of(a.build, otherBuild), a.wire(cfg)}
}

func (r *remote) Config() *config.Config { return r.wire.cfg }

func (*remote) Close() error { return nil }

func (*remote) Continues(*journal.Run) string { return "it continues now" }

func (r *remote) Records(context.Context) (api.Records, error) { return r.Client.Records(), nil }

// Interrupted implements [viewer]: a daemon knows at once when a process is gone.
func (*remote) Interrupted(journal.Run) (bool, error) { return false, nil }

// Scripts implements [viewer]. Scripts that only the daemon may read are reported as the
// daemon has them.
func (r *remote) Scripts(ctx context.Context) (*checked, error) {
	loaded, err := r.wire.loadScripts(ctx, r.wire.cfg.Scripts, nil)
	if err == nil {
		return &checked{Playbooks: loaded.playbooks(), Problems: loaded.Problems}, nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	s, statusErr := r.Status(ctx)
	if statusErr != nil {
		return nil, errors.Join(err, statusErr)
	}
	report := &checked{Problems: s.Scripts}
	for _, p := range s.Playbooks {
		if p.Bundle != "" && p.Error == nil {
			report.Playbooks = append(report.Playbooks, &bundle.Playbook{Name: p.Name, File: p.Script, Hash: p.Bundle})
		}
	}
	return report, nil
}

// Secret implements [viewer]: only the daemon sees what systemd passes to it.
func (r *remote) Secret(ctx context.Context, name string) api.SecretState {
	s, err := r.Client.Secret(ctx, name)
	if err != nil {
		return api.SecretState{Name: name, Error: problem.From(err)}
	}
	return *s
}

// Cancel waits until the run has ended, or its process cannot end it.
func (r *remote) Cancel(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	now, err := r.Client.Cancel(ctx, id, d)
	for err == nil && now.Ended.IsZero() {
		now, err = r.Follow(ctx, now.ID, func(journal.Record) {})
		if err == nil && now.Status == journal.Parked {
			break
		}
	}
	return now, err
}

// Run implements [operator]: the daemon works on the run, and it is followed here.
func (r *remote) Run(ctx context.Context, name string, o runOptions, p *progress) (int, error) {
	if o.now || o.replay {
		return exitUsage, &problem.Error{
			Kind: problem.Usage, Message: "--now and --replay are for a run in the foreground, and the daemon runs",
			Hint: "the daemon keeps windows and blackouts; change those in script or config, or stop it",
		}
	}
	reply, err := r.Client.Run(ctx, api.RunRequest{Playbook: name, Force: o.force})
	if err != nil {
		return exitFailed, err
	}
	p.begin(name, reply.ID, reply.Resumed)
	if e := reply.Broken; e != nil {
		_, _ = plain.Fprintf(p.stderr, "moonseal: the script is broken, and its last good version runs: %s\n", e)
		printPlace(p.stderr, e.Place)
	}
	out, err := r.follow(ctx, reply.ID, o.wait, p)
	if err != nil {
		if ctx.Err() != nil {
			p.interrupted()
			err = &problem.Error{Kind: problem.Unavailable, Message: "no longer followed; the daemon continues the run", Hint: "moonseal cancel " + reply.ID + " ends it"}
		}
		return exitFailed, err
	}
	p.outcome(name, reply.ID, out)
	return outcomeCode(out, o.detailed), nil
}

// follow shows a run until it ends or stops; with wait, through its waits.
func (r *remote) follow(ctx context.Context, id string, wait bool, p *progress) (*run.Outcome, error) {
	clock := r.wire.clock
	var shown time.Time
	for {
		now, err := r.Follow(ctx, id, p.record)
		if err != nil {
			return nil, err
		}
		out := outcomeOf(now)
		if out.Status != journal.Waiting || !wait {
			return out, nil
		}
		if now.Updated.After(shown) { // each wait once
			shown = now.Updated
			p.waiting(out)
		}
		select {
		case <-clock.After(min(max(out.Until.Sub(clock.Now()), followPause), followMost)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const (
	followPause = time.Second      // between two looks at a run that waits
	followMost  = 10 * time.Second // since a person may wake it at any time
)

// outcomeOf returns a run that has ended or stopped as its process would have.
func outcomeOf(r *journal.Run) *run.Outcome {
	out := &run.Outcome{Status: r.Status, Reason: r.Reason, Error: r.Error}
	if r.Status == journal.Waiting {
		out.Reason, out.Until = r.WaitFor, r.WakeAt
	}
	return out
}
