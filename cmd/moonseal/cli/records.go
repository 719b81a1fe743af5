package cli

import (
	"context"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// records returns what there is to read of the journal, and whether a daemon shows
// it: that one lets its socket's group read too. close is to be called.
func (a *app) records(ctx context.Context, cfg *config.Config) (r api.Records, byDaemon bool, closeIt func(), err error) {
	if c := a.daemon(cfg); c.Alive(ctx) {
		return c.Records(), true, func() {}, nil
	}
	j, err := journal.OpenReadOnly(ctx, cfg.State)
	if err != nil {
		return nil, false, nil, err
	}
	return j, false, func() { _ = j.Close() }, nil
}
