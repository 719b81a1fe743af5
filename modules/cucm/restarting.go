package cucm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"moonseal/modules/ssh"
	"moonseal/runtime/problem"
)

// restarting is one pass over the services.
type restarting struct {
	c        *Client
	service  string // the certificate's type
	state    RestartProgress
	progress func(any) error
	noted    bool // something of this pass is journaled
	waiting  bool // something is not
}

func (c *Client) restarting(service string, look RestartLook, earlier RestartProgress) *restarting {
	return &restarting{c: c, service: service, state: look.Progress(earlier)}
}

func (r *restarting) of(service string) string {
	for _, s := range r.state.Services {
		if s.Service == service {
			return s.State
		}
	}
	return ""
}

// finished reports whether a service must not be restarted again.
func (r *restarting) finished(service string) bool {
	s := r.of(service)
	return s == Started || s == Done
}

// set records a state. It is journaled when set returns, unless it may be lost: then it
// goes with the next one that may not.
func (r *restarting) set(service, state string) error {
	before := r.of(service)
	i := slices.IndexFunc(r.state.Services, func(s RestartState) bool { return s.Service == service })
	if i < 0 {
		r.state.Services = append(r.state.Services, RestartState{Service: service})
		i = len(r.state.Services) - 1
	}
	r.state.Services[i].State = state
	r.waiting = true
	// With the first state goes the mark that keeps other runs from this restart.
	if r.noted && (repeatable(r.service, service) && state != Failed || before == Started && state == Done) {
		return nil
	}
	return r.note()
}

// note journals what is known.
func (r *restarting) note() error {
	if r.progress == nil || !r.waiting {
		return nil
	}
	r.waiting = false // also if it fails: that ends the restart
	err := r.progress(&RestartProgress{r.state.Look, slices.Clone(r.state.Services)})
	r.noted = err == nil
	return err
}

func (r *restarting) result(q RestartRequest, look RestartLook) *Restarted {
	out := &Restarted{Host: r.c.o.Host, Service: q.Service, Services: []RestartState{}}
	for _, s := range look.Services {
		out.Services = append(out.Services, RestartState{s, r.of(s)})
	}
	return out
}

// all restarts todo. A service that the node will not start does not keep the
// others from it; it is the error at the end.
func (r *restarting) all(ctx context.Context, todo []string) (err error) {
	if len(todo) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			_ = r.note() // what was restarted is not restarted again; err says more
		}
	}()
	shell := r.c.takeShell() // of the look
	if shell == nil {
		if shell, err = r.c.login(ctx); err != nil {
			return r.c.failed("restarting "+todo[0], err)
		}
	}
	defer shell.Close() //nolint:errcheck // all that counts was read
	defer r.c.close()   // what was shown before the restart counts no more
	var failed []error
	for _, service := range todo {
		err := r.one(ctx, shell, service)
		var p *problem.Error
		switch {
		case err == nil:
		case errors.Is(err, ssh.ErrQuestion): // it would ask of the others too
			return err
		case errors.As(err, &p) && p.Work == problem.NotDone && r.of(service) == Failed:
			failed = append(failed, err)
		default:
			return err
		}
	}
	if len(failed) == 0 {
		return r.note()
	}
	return failed[0]
}

// one restarts one service and waits for the prompt.
func (r *restarting) one(ctx context.Context, shell *ssh.Session, service string) error {
	log := r.c.o.Log.With("host", r.c.o.Host, "service", service)
	if err := r.set(service, Sending); err != nil {
		return err
	}
	log.Info("restarting")
	ctx, cancel := context.WithTimeout(ctx, r.c.o.RestartTimeout)
	defer cancel()
	var unkept error
	var lines []string
	began := r.c.o.Clock.Now()
	output, err := shell.Run(ctx, "utils service restart "+service, func(line string) {
		if line = strings.TrimSpace(line); line == "" || unkept != nil {
			return
		}
		lines = append(lines, line)
		if started(line) && r.of(service) == Sending {
			// A restart that cannot be journaled must not continue unseen.
			if unkept = r.set(service, Started); unkept != nil {
				cancel()
			}
		}
	})
	log.Debug("restart", "output", strings.Join(lines, "\n"))
	if unkept != nil {
		return unkept
	}
	if err != nil && errors.Is(err, ssh.ErrQuestion) && r.of(service) == Sending {
		asked := *problem.From(err)
		asked.Work = problem.NotDone // it asks before it does anything
		err = &asked
		if unkept := r.set(service, Failed); unkept != nil {
			return unkept
		}
	}
	if err != nil {
		return r.c.failed("restarting "+service, err)
	}
	if err := r.ended(service, output, r.c.o.Clock.Now().Sub(began)); err != nil {
		return err
	}
	return r.set(service, Done)
}

// ended judges what a restart's command printed.
func (r *restarting) ended(service, output string, took time.Duration) error {
	log := r.c.o.Log.With("host", r.c.o.Host, "service", service, "took", took.Round(time.Second).String())
	p := &problem.Error{Kind: problem.Unavailable, Server: output, Work: problem.NotDone, Hint: "look at the service on the node; it is restarted again when the run continues"}
	switch judge(service, output) {
	case outcomeStarted:
		log.Info("restarted")
		return nil
	case outcomeUnproven:
		log.Warn("the node went back to its prompt without [STARTED]; whether it restarted shows in the served certificate", "output", output)
		return nil
	case outcomeDoubtful:
		p.Message, p.Work, p.Hint = "the node reports that the restart failed", problem.Unknown, "look at the service on the node: utils service list"
		return r.c.failed("restarting "+service, p)
	case outcomeStopped:
		p.Message = "the service did not start again"
	case outcomeRefused:
		p.Message = "the node refused to restart it"
		switch lower := strings.ToLower(output); {
		case strings.Contains(lower, "privilege"):
			p.Kind, p.Hint = problem.Auth, "restarting services needs privilege level 1"
		case strings.Contains(lower, "upgrade"):
			p.Hint = "wait until the upgrade has ended; the run continues then"
		case strings.Contains(lower, "invalid"), strings.Contains(lower, "not valid"), strings.Contains(lower, "no valid command"):
			p.Kind, p.Hint = problem.Refused, "see the node's own names: utils service list"
		}
	}
	if err := r.set(service, Failed); err != nil {
		return err
	}
	return r.c.failed("restarting "+service, p)
}
