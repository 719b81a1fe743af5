package cucm

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	Installed string         `json:"installed"`        // the installed certificate, PEM: what the restart will serve
	SHA256    string         `json:"sha256"`           // its fingerprint
	Served    string         `json:"served,omitempty"` // fingerprint of what was served before; tomcat only
	Services  []string       `json:"services"`         // to restart, in order
	Before    []RestartState `json:"before,omitempty"` // what earlier passes did

	shown *x509.Certificate // what Served is the fingerprint of
}

// The states of a service's restart.
const (
	Sending = "sending" // the command is about to be sent
	Started = "begun"   // the appliance reports that it restarts
	Done    = "done"    // it reports that it has started, or went back to its prompt
	Failed  = "failed"  // it reports that it did not start, or that it will not try
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

// Restarted is the result of a restart. It does not prove that the new certificate is
// served: see [Client.Serves].
type Restarted struct {
	Host     string         `lua:"host" doc:"the node"`
	Service  string         `lua:"service" doc:"whose certificate it is"`
	Services []RestartState `lua:"services" doc:"what was restarted, in order"`
}

// Services lists the node's services and their states, over SSH.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	list, shell, err := c.list(ctx)
	if err == nil {
		_ = shell.Close() // nothing is lost
	}
	return list, err
}

// list is Services, and leaves the session open.
func (c *Client) list(ctx context.Context) (_ []Service, _ *ssh.Session, err error) {
	const doing = "listing the services"
	shell, err := c.login(ctx)
	if err != nil {
		return nil, nil, c.failed(doing, err)
	}
	defer func() {
		if err != nil {
			_ = shell.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*c.o.Timeout)
	defer cancel()
	output, err := shell.Run(ctx, "utils service list", nil)
	if err != nil {
		return nil, nil, c.failed(doing, err)
	}
	list := parseServices(output)
	if len(list) == 0 {
		return nil, nil, c.failed(doing, &problem.Error{Kind: problem.Unavailable, Message: "the node lists no services", Server: output, Work: problem.NotDone})
	}
	return list, shell, nil
}

// Login logs in over SSH, waits for the prompt, and leaves.
func (c *Client) Login(ctx context.Context) error {
	shell, err := c.login(ctx)
	if err != nil {
		return c.failed("logging in over SSH", err)
	}
	_ = shell.Close() // nothing is lost
	return nil
}

func (c *Client) login(ctx context.Context) (*ssh.Session, error) {
	s, err := ssh.Dial(ctx, ssh.Config{
		Addr: c.addr(c.o.SSHPort), User: c.o.Username, Password: c.o.Password, HostKeys: c.o.HostKeys, Trust: c.o.Trust,
		Dial: c.o.Dial, Legacy: c.o.Legacy, Timeout: c.o.Timeout, Banner: c.o.Banner, Settle: c.o.PromptSettle,
	})
	if kind(err) == problem.Auth {
		p := *problem.From(err)
		p.Hint = "use the OS administrator (platform) account of this very node; it was tried once only, because appliances lock accounts"
		return nil, &p
	}
	return s, err
}

// LookRestart checks that the expected certificate is installed and finds out which
// services to restart; the session for that stays open for a moment. done means that
// there is nothing to do, because the expected certificate is served already. What an
// earlier pass found and did (earlier) is taken over. Errors: Conflict if another
// certificate is installed, Usage (phone lockout, unknown type).
func (c *Client) LookRestart(ctx context.Context, r RestartRequest, earlier RestartProgress) (look RestartLook, done *Restarted, err error) {
	if err := c.mayChange(r.Service); err != nil {
		return look, nil, err
	}
	installed, err := c.awaitExpected(ctx, r)
	if len(earlier.Services) > 0 && (err == nil || kind(err).Retryable()) {
		// A restart that went wrong may have left no Tomcat to ask; only the command line
		// can fix that.
		look = earlier.Look
		look.Before = merge(look.Before, earlier.Services)
		return look, nil, nil
	}
	if err != nil {
		return look, nil, err
	}
	look.Installed, look.SHA256 = installed.PEM, installed.SHA256
	if served, err := c.servedFor(ctx, r.Service, installed); err != nil {
		return look, nil, err
	} else if served != nil {
		look.Served, look.shown = served.SHA256, served
	}
	if r.Expect != nil && look.Served == look.SHA256 && len(r.Services) == 0 {
		return look, &Restarted{Host: c.o.Host, Service: r.Service, Services: []RestartState{}}, nil
	}
	list, shell, err := c.list(ctx)
	if err != nil {
		return look, nil, err
	}
	c.hold(shell) // for the restart
	if look.Services, err = plan(r.Service, r.Services, list); err != nil {
		c.close()
		return look, nil, c.failed("restarting the services of "+r.Service, err)
	}
	return look, nil, nil
}

// awaitExpected returns the installed certificate. If another one is expected it waits
// for the time that replication takes, because a cluster's certificate is uploaded to one
// node and reaches the others a little later; then it is a Conflict.
func (c *Client) awaitExpected(ctx context.Context, r RestartRequest) (*x509.Certificate, error) {
	for end := c.o.Clock.Now().Add(c.o.Replication); ; {
		installed, err := c.Identity(ctx, r.Service)
		if err != nil || r.Expect == nil || r.Expect.SHA256 == installed.SHA256 {
			return installed, err
		}
		doing := "restarting the services of " + r.Service
		if !c.o.Clock.Now().Before(end) {
			return nil, c.failed(doing, &problem.Error{
				Kind: problem.Conflict, Work: problem.NotDone,
				Message: fmt.Sprintf("another certificate is installed than expected: expected sha256 %s, installed %s (%s, issued by %s)",
					r.Expect.SHA256, installed.SHA256, installed.Subject, installed.Issuer),
				Hint: "it was changed meanwhile, or a cluster's certificate has not reached this node",
			})
		}
		if err := c.wait(ctx, c.o.Poll); err != nil {
			return nil, c.failed(doing, err)
		}
	}
}

// servedFor returns what the REST port serves if that is the service's certificate; nil
// if it is another service's.
func (c *Client) servedFor(ctx context.Context, service string, installed *x509.Certificate) (*x509.Certificate, error) {
	if trustService(service) != "tomcat" {
		return nil, nil //nolint:nilnil // nil is the documented "another's"
	}
	_, served, err := c.Serves(ctx, installed)
	return served, err
}

// Restart restarts the services of look one by one. progress, which may be nil, gets a
// *RestartProgress before a command, and once the node reports that the restart has
// started; services that may be restarted twice are reported with another one, and at the
// end. Its error ends the restart. What earlier or look know as started or done is not
// restarted again. Once anything was started, the work of a temporary error is Unknown:
// ask [Client.ProbeRestart].
func (c *Client) Restart(ctx context.Context, r RestartRequest, look RestartLook, earlier RestartProgress, progress func(any) error) (*Restarted, error) {
	run := c.restarting(r.Service, look, earlier)
	run.progress = progress
	if state := run.of(tomcatService); (state == Sending || state == Failed) && c.restarted(ctx, look) {
		if err := run.set(tomcatService, Done); err != nil {
			return nil, err
		}
	}
	if err := c.pins.accept(look.SHA256); err != nil {
		return nil, untouched(c.failed("keeping the pin of the new certificate", err))
	}
	err := run.all(ctx, slices.DeleteFunc(slices.Clone(look.Services), run.finished))
	var p *problem.Error
	if errors.As(err, &p) && p.Kind.Retryable() && len(run.state.Services) > 0 {
		after := *p
		after.Work = problem.Unknown
		return nil, &after
	}
	if err != nil {
		return nil, err
	}
	return run.result(r, look), nil
}

// ProbeRestart finds out whether a lost Restart has done all that look asked for; if it
// has not, another Restart does the rest. A node that still serves the old certificate
// has the settling time; one that cannot be reached is an error: it may be restarting.
// Conflict: it cannot be found out.
func (c *Client) ProbeRestart(ctx context.Context, r RestartRequest, look RestartLook, earlier RestartProgress) (*Restarted, bool, error) {
	run := c.restarting(r.Service, look, earlier)
	if run.of(tomcatService) == Sending && look.provable() {
		serves, err := c.awaitServed(ctx, look)
		if err != nil {
			return nil, false, err
		}
		state := Failed
		if serves {
			state = Done
		}
		_ = run.set(tomcatService, state) // journals nothing: there is no progress
	}
	for _, s := range look.Services {
		if run.of(s) == Sending && !harmless(r.Service, s) {
			return nil, false, c.failed("restarting "+s, &problem.Error{
				Kind: problem.Conflict, Message: "the session ended before the node reported whether the restart has started", Work: problem.Unknown,
				Hint: "look at the node; if the service was not restarted, restart it by hand",
			})
		}
	}
	if slices.ContainsFunc(look.Services, func(s string) bool { return !run.finished(s) }) {
		return nil, false, nil
	}
	return run.result(r, look), true, nil
}

// Progress returns what is known after look and progress as the earlier progress
// of a next pass.
func (l RestartLook) Progress(progress RestartProgress) RestartProgress {
	return RestartProgress{Look: l, Services: merge(l.Before, progress.Services)}
}

// merge returns the states of both; those of later count.
func merge(earlier, later []RestartState) []RestartState {
	out := slices.Clone(later)
	for _, s := range earlier {
		if !slices.ContainsFunc(later, func(l RestartState) bool { return l.Service == s.Service }) {
			out = append(out, s)
		}
	}
	return out
}

// awaitServed polls until the installed certificate is served, or the old one still
// is after the settling time.
func (c *Client) awaitServed(ctx context.Context, look RestartLook) (bool, error) {
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
