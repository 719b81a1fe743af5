package cucm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/modules/ssh"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// RestartRequest says what to restart.
type RestartRequest struct {
	Service  string            // the certificate's type, such as tomcat
	Expect   *x509.Certificate // must be the installed certificate; nil: any
	Services []string          // these instead of the ones that the type needs
}

// RestartLook is what was found before a restart.
type RestartLook struct {
	Installed string   `json:"installed"`        // the installed certificate, PEM: what the restart will serve
	SHA256    string   `json:"sha256"`           // its fingerprint
	Served    string   `json:"served,omitempty"` // fingerprint of what was served before; tomcat only
	Services  []string `json:"services"`         // to restart, in order
}

// The states of a service's restart.
const (
	Sending = "sending" // the command is about to be sent
	Begun   = "begun"   // the appliance says that it restarts
	Done    = "done"    // it says that it has started, or went back to its prompt
	Failed  = "failed"  // it says that it did not start, or that it will not try
)

// RestartState is one service of a restart.
type RestartState struct {
	Service string `json:"service" lua:"service" doc:"such as Cisco Tomcat"`
	State   string `json:"state" lua:"state" doc:"begun (by an earlier process) or done"`
}

// RestartProgress is how far a restart has come.
type RestartProgress struct {
	Look     RestartLook    `json:"look"` // what it began with
	Services []RestartState `json:"services"`
}

// Restarted is the result of a restart. It is no proof that the new certificate
// is served: see [Client.Serves].
type Restarted struct {
	Host     string         `lua:"host" doc:"the node"`
	Service  string         `lua:"service" doc:"whose certificate it is"`
	Services []RestartState `lua:"services" doc:"what was restarted, in order"`
}

// Services lists the node's services and their states, over SSH.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	const doing = "listing the services"
	shell, err := c.shell(ctx)
	if err != nil {
		return nil, c.failed(doing, err)
	}
	defer shell.Close() //nolint:errcheck // nothing is lost
	ctx, cancel := context.WithTimeout(ctx, 2*c.o.Timeout)
	defer cancel()
	output, err := shell.Run(ctx, "utils service list", nil)
	if err != nil {
		return nil, c.failed(doing, err)
	}
	list := parseServices(output)
	if len(list) == 0 {
		return nil, c.failed(doing, &problem.Error{Kind: problem.Unavailable, Message: "the node lists no services", Server: output, Work: problem.NotDone})
	}
	return list, nil
}

func (c *Client) shell(ctx context.Context) (*ssh.Session, error) {
	s, err := ssh.Dial(ctx, ssh.Config{
		Addr: c.addr(c.o.SSHPort), User: c.o.Username, Password: c.o.Password, HostKeys: c.o.HostKeys,
		Dial: c.o.Dial, Legacy: c.o.Legacy, Timeout: c.o.Timeout, Banner: c.o.Banner,
	})
	if kind(err) == problem.Auth {
		p := *problem.From(err)
		p.Hint = "use the OS administrator (platform) account of this very node; it was tried once only, because appliances lock accounts"
		return nil, &p
	}
	return s, err
}

// LookRestart checks that the expected certificate is installed and finds out
// which services to restart. done: there is nothing to do, because the expected
// certificate is served already and nothing was begun earlier. Errors: Conflict
// where another certificate is installed, Usage (phone lockout, unknown type).
func (c *Client) LookRestart(ctx context.Context, r RestartRequest, earlier RestartProgress) (look RestartLook, done *Restarted, err error) {
	doing := "restarting the services of " + r.Service
	if err := c.mayChange(r.Service); err != nil {
		return look, nil, err
	}
	installed, err := c.Identity(ctx, r.Service)
	if err != nil && kind(err).Retryable() && len(earlier.Services) > 0 {
		// A restart that went wrong may have left no Tomcat to ask; only the
		// command line can mend that.
		return earlier.Look, nil, nil
	}
	if err != nil {
		return look, nil, err
	}
	look.Installed, look.SHA256 = installed.PEM, installed.SHA256
	if r.Expect != nil && r.Expect.SHA256 != installed.SHA256 {
		return look, nil, c.failed(doing, &problem.Error{
			Kind: problem.Conflict, Work: problem.NotDone,
			Message: fmt.Sprintf("another certificate is installed than expected: expected sha256 %s, installed %s (%s, issued by %s)",
				r.Expect.SHA256, installed.SHA256, installed.Subject, installed.Issuer),
			Hint: "someone changed it meanwhile, or a cluster's certificate has not reached this node yet",
		})
	}
	if served, err := c.servedFor(ctx, r.Service, installed); err != nil {
		return look, nil, err
	} else if served != nil {
		look.Served = served.SHA256
	}
	if r.Expect != nil && look.Served == look.SHA256 && len(earlier.Services) == 0 && len(r.Services) == 0 {
		return look, &Restarted{Host: c.o.Host, Service: r.Service, Services: []RestartState{}}, nil
	}
	list, err := c.Services(ctx)
	if err != nil {
		return look, nil, err
	}
	if look.Services, err = plan(r.Service, r.Services, list); err != nil {
		return look, nil, c.failed(doing, err)
	}
	return look, nil, nil
}

// servedFor gives what the REST port serves where that is the service's
// certificate; nil where it is another service's.
func (c *Client) servedFor(ctx context.Context, service string, installed *x509.Certificate) (*x509.Certificate, error) {
	if trustService(service) != "tomcat" {
		return nil, nil
	}
	_, served, err := c.Serves(ctx, installed)
	return served, err
}

// Restart restarts the services of look one by one. progress, which may be nil,
// gets a *RestartProgress before and after each command and once the node says
// that a restart has begun; its error ends the restart. What earlier knows as
// begun or done is not restarted again.
func (c *Client) Restart(ctx context.Context, r RestartRequest, look RestartLook, earlier RestartProgress, progress func(any) error) (*Restarted, error) {
	run := &restarting{c: c, state: RestartProgress{look, slices.Clone(earlier.Services)}, progress: progress}
	todo := slices.DeleteFunc(slices.Clone(look.Services), run.settled)
	if slices.Contains(todo, tomcatService) && run.of(tomcatService) == Sending && c.restarted(ctx, look) {
		if err := run.set(tomcatService, Done); err != nil {
			return nil, err
		}
		todo = slices.DeleteFunc(todo, run.settled)
	}
	if err := c.pins.accept(look.SHA256); err != nil {
		return nil, untouched(c.failed("keeping the pin of the new certificate", err))
	}
	if err := run.all(ctx, todo); err != nil {
		return nil, err
	}
	return run.result(r, look), nil
}

// ProbeRestart finds out whether a lost Restart has done all that look asked
// for. A node that still serves the old certificate is given the settling time;
// one that cannot be reached is an error: it may be restarting.
func (c *Client) ProbeRestart(ctx context.Context, r RestartRequest, look RestartLook, earlier RestartProgress) (*Restarted, bool, error) {
	run := &restarting{c: c, state: RestartProgress{look, slices.Clone(earlier.Services)}}
	if run.of(tomcatService) == Sending && look.provable() {
		serves, err := c.settled(ctx, look)
		if err != nil {
			return nil, false, err
		}
		if serves {
			_ = run.set(tomcatService, Done) // keeps nothing: there is no progress
		}
	}
	for _, s := range look.Services {
		if !run.settled(s) {
			return nil, false, nil
		}
	}
	return run.result(r, look), true, nil
}

// settled polls until the installed certificate is served, or the old one still
// is after the settling time.
func (c *Client) settled(ctx context.Context, look RestartLook) (bool, error) {
	for end := c.o.Clock.Now().Add(c.o.Settle); ; {
		serves, _, err := c.Serves(ctx, look.expected())
		if serves || !c.o.Clock.Now().Before(end) {
			return serves, err
		}
		if err := c.wait(ctx, c.o.Poll); err != nil {
			return false, c.failed("waiting for the restart", err)
		}
	}
}

// restarted reports whether the node serves the certificate that only a restart
// can have brought.
func (c *Client) restarted(ctx context.Context, look RestartLook) bool {
	if !look.provable() {
		return false
	}
	serves, _, err := c.Serves(ctx, look.expected())
	return serves && err == nil
}

// provable reports whether a handshake can show that Tomcat was restarted.
func (l RestartLook) provable() bool { return l.Served != "" && l.Served != l.SHA256 }

func (l RestartLook) expected() *x509.Certificate {
	return &x509.Certificate{PEM: l.Installed, SHA256: l.SHA256}
}

// restarting is one pass over the services.
type restarting struct {
	c        *Client
	state    RestartProgress
	progress func(any) error
}

func (r *restarting) of(service string) string {
	for _, s := range r.state.Services {
		if s.Service == service {
			return s.State
		}
	}
	return ""
}

// settled reports whether a service must not be restarted again.
func (r *restarting) settled(service string) bool {
	s := r.of(service)
	return s == Begun || s == Done
}

// set notes a state and has it journaled before it returns.
func (r *restarting) set(service, state string) error {
	i := slices.IndexFunc(r.state.Services, func(s RestartState) bool { return s.Service == service })
	if i < 0 {
		r.state.Services = append(r.state.Services, RestartState{Service: service})
		i = len(r.state.Services) - 1
	}
	r.state.Services[i].State = state
	if r.progress == nil {
		return nil
	}
	return r.progress(&RestartProgress{r.state.Look, slices.Clone(r.state.Services)})
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
func (r *restarting) all(ctx context.Context, todo []string) error {
	if len(todo) == 0 {
		return nil
	}
	shell, err := r.c.shell(ctx)
	if err != nil {
		return r.c.failed("restarting "+todo[0], err)
	}
	defer shell.Close() //nolint:errcheck // all that counts was read
	var failed []error
	for _, service := range todo {
		err := r.one(ctx, shell, service)
		var p *problem.Error
		switch {
		case err == nil:
		case errors.As(err, &p) && p.Work == problem.NotDone && r.of(service) == Failed:
			failed = append(failed, err)
		default:
			return err
		}
	}
	if len(failed) == 0 {
		return nil
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
	began := r.c.o.Clock.Now()
	output, err := shell.Run(ctx, "utils service restart "+service, func(line string) {
		if line = strings.TrimSpace(line); line == "" || unkept != nil {
			return
		}
		log.Debug("restart", "line", line)
		if begun(line) && r.of(service) == Sending {
			// A restart that cannot be journaled must not go on unseen.
			if unkept = r.set(service, Begun); unkept != nil {
				cancel()
			}
		}
	})
	if unkept != nil {
		return unkept
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
	p := &problem.Error{Kind: problem.Unavailable, Server: output, Work: problem.NotDone, Hint: "look at the service on the node; it is restarted again when the run goes on"}
	switch judge(service, output) {
	case outcomeStarted:
		log.Info("restarted")
		return nil
	case outcomeUnproven:
		log.Warn("the node went back to its prompt without [STARTED]; whether it restarted shows in the served certificate")
		return nil
	case outcomeStopped:
		p.Message = "the service did not start again"
	case outcomeRefused:
		p.Message = "the node refused to restart it"
		switch lower := strings.ToLower(output); {
		case strings.Contains(lower, "privilege"):
			p.Kind, p.Hint = problem.Auth, "restarting services needs privilege level 1"
		case strings.Contains(lower, "invalid"), strings.Contains(lower, "not valid"), strings.Contains(lower, "no valid command"):
			p.Kind, p.Hint = problem.Refused, "see the node's own names: utils service list"
		}
	}
	if err := r.set(service, Failed); err != nil {
		return err
	}
	return r.c.failed("restarting "+service, p)
}
