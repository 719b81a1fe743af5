package cucm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// once allows a restart only if no other run has started it for the same certificate: a
// restart after which the old one is still served would otherwise be repeated by each
// run. done is not nil if such a restart has led to its end by now.
func once(c *bind.Call, n *Node, a *restartArgs, look RestartLook) (done *Restarted, err error) {
	if a.Options.Expect == nil || look.Served == "" {
		return nil, nil //nolint:nilnil // nothing shows whether the earlier restart has worked
	}
	kept, err := c.Account.Restarts(n.Host, a.Service)
	if err != nil || kept.SHA256 != look.SHA256 {
		return nil, err
	}
	var started []string
	for _, service := range look.Services {
		if r, ok := kept.Services[service]; ok && r.Run != c.Run {
			started = append(started, service)
		}
	}
	switch {
	case len(started) == 0:
		return nil, nil //nolint:nilnil // nothing forbids it
	case look.provable():
		return nil, notAgain(c, n, look, started, kept.Services[started[0]])
	case len(started) == len(look.Services):
		return &Restarted{Host: n.Host, Service: a.Service, Services: []RestartState{}}, nil
	}
	return nil, nil //nolint:nilnil // it is served, and the caller asks for further services
}

func notAgain(c *bind.Call, n *Node, look RestartLook, started []string, earlier account.Restart) error {
	const second = "2006-01-02 15:04:05 UTC"
	return &problem.Error{
		Kind: problem.Conflict, Work: problem.NotDone, Park: true, Target: n.Host,
		Message: fmt.Sprintf("the installed certificate, sha256 %s, is not served: port %d serves sha256 %s (issued by %s, until %s), "+
			"although run %s began to restart %s for it at %s; a run does not restart them a second time",
			look.SHA256, n.Port, look.Served, look.shown.Issuer, look.shown.NotAfter.UTC().Format(time.DateOnly),
			earlier.Run, strings.Join(started, ", "), earlier.At.UTC().Format(second)),
		Hint: "look at the node and restart its services by hand; then moonseal resume " + c.Run + " --as look looks again",
	}
}

// marker records, before the first service is restarted, that a restart was started.
type marker struct {
	c        *bind.Call
	host     string
	service  string
	look     RestartLook
	previous *account.Restarts // what the mark has replaced; nil: there is no mark yet
	started  bool              // a service's restart has started
	last     []RestartState    // as journaled last
}

// progress journals how far the restart has come, with the mark before it.
func (m *marker) progress(v any) error {
	p, ok := v.(*RestartProgress)
	if !ok {
		return fmt.Errorf("progress of a restart is a %T", v)
	}
	if m.previous == nil {
		if err := m.mark(); err != nil {
			return err
		}
	}
	m.started = m.started || slices.ContainsFunc(p.Services, func(s RestartState) bool { return s.State == Started || s.State == Done })
	if err := m.c.Progress(v); err != nil {
		return err
	}
	m.last = p.Services
	return nil
}

func (m *marker) mark() error {
	previous, err := m.c.Account.Restarts(m.host, m.service)
	if err != nil {
		return err
	}
	next := account.Restarts{SHA256: m.look.SHA256, Services: map[string]account.Restart{}}
	if previous.SHA256 == next.SHA256 {
		maps.Copy(next.Services, previous.Services)
	}
	for _, service := range m.look.Services {
		next.Services[service] = account.Restart{Run: m.c.Run, At: m.c.Clock.Now().UTC()}
	}
	if err := m.c.Account.SaveRestarts(m.host, m.service, next); err != nil {
		return err
	}
	m.previous = &previous
	return nil
}

// failed takes the mark back if the node has refused each restart. A command whose
// answer was lost may have started one, so its mark stays.
func (m *marker) failed() {
	if m.previous == nil || m.started || slices.ContainsFunc(m.last, func(s RestartState) bool { return s.State != Failed }) {
		return
	}
	if err := m.c.Account.SaveRestarts(m.host, m.service, *m.previous); err != nil {
		m.c.Log.WarnContext(m.c.Context, "the mark of a refused restart stays: the next run will park", "host", m.host, "error", err)
	}
}
