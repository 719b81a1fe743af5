package daemon

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// notifier sends an alert for each trouble that the status shows, and when it is over.
type notifier struct {
	journal  *journal.Journal
	settings *settings
	storage  *storage
	alerts   *alert.Alerter
	status   func(context.Context) (*api.Status, error)
	clock    clockwork.Clock
	log      *slog.Logger
}

// run checks for troubles when check is signalled, until that is closed.
func (n *notifier) run(ctx context.Context, check <-chan struct{}) {
	for range check {
		n.update(ctx)
	}
}

func (n *notifier) update(ctx context.Context) {
	if n.settings.now().Send == nil {
		return // the alerts are sent once a service is configured
	}
	status, err := n.status(ctx)
	if err == nil {
		err = n.alerts.Update(ctx, status.Problems, func(p api.Problem, since time.Time) string {
			decisions, err := n.journal.Decisions(ctx, p.Run)
			if err != nil || p.Run == "" {
				decisions = nil // the message then lacks who decided
			}
			now := n.clock.Now()
			return alert.Over(status, p, decisions, now.Sub(since), now)
		})
	}
	if err != nil && ctx.Err() == nil && n.storage.trouble.Load() == nil {
		n.log.Error("cannot check for problems", "error", err.Error())
	}
}

// TestAlerts sends a test message to all services that the config names, and a heartbeat
// to its URL.
func TestAlerts(ctx context.Context, cfg *config.Config, send alert.Send, beat func(context.Context) error) (*api.AlertReply, error) {
	if send == nil && beat == nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: cfg.Path, Message: "the config has no alerts",
			Hint: "alerts: { urls: [TEAMS_URL] }, where TEAMS_URL is a secret that holds a service's URL",
		}
	}
	r := &api.AlertReply{}
	if send != nil {
		host, _ := os.Hostname()
		if err := send(ctx, "moonseal: test", "test alert of moonseal on "+host); err != nil {
			return nil, err
		}
		r.Services = len(cfg.Alerts.URLs)
	}
	if beat != nil {
		if err := beat(ctx); err != nil {
			return nil, problem.At(err, "", "the URL of "+cfg.Alerts.Heartbeat)
		}
		r.Heartbeat = cfg.Alerts.Heartbeat
	}
	return r, nil
}

// TestAlerts implements [api.Daemon].
func (d *Daemon) TestAlerts(ctx context.Context) (*api.AlertReply, error) {
	s := d.settings.now()
	return TestAlerts(ctx, s.cfg, s.Send, s.Beat)
}
