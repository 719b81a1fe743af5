package daemon

import (
	"context"
	"os"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/problem"
)

// TestAlerts sends a message to all services that the config names, and asks for the
// heartbeat's URL.
func TestAlerts(ctx context.Context, cfg *config.Config, send alert.Send, beat func(context.Context) error) (*api.AlertReply, error) {
	if send == nil && beat == nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: cfg.Path, Message: "there are no alerts in the config",
			Hint: "alerts: { urls: [TEAMS_URL] }, where TEAMS_URL is a secret that holds a service's URL",
		}
	}
	r := &api.AlertReply{}
	if send != nil {
		host, _ := os.Hostname()
		if err := send(ctx, "moonseal: test", "alerts of moonseal on "+host+" arrive here"); err != nil {
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
	s := d.now()
	return TestAlerts(ctx, s.cfg, s.Send, s.Beat)
}
