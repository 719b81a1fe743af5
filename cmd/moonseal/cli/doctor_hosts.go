package cli

import (
	"context"
	"path/filepath"
	"slices"

	"moonseal/modules/ssh"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

// hosts compares what each further trusted host shows with its pins.
func (e *examination) hosts(ctx context.Context) {
	accounts := filepath.Join(e.cfg.State, "accounts")
	var files []string
	for _, pattern := range []string{"*/pins.json", "*/*/pins.json"} { // a host's, a tenant's host's
		found, err := filepath.Glob(filepath.Join(accounts, pattern))
		if err != nil {
			e.add("hosts", "", err)
			return
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		e.add("hosts", "no host is trusted yet: moonseal trust HOST pins what a host shows", nil)
	}
	for _, file := range files {
		host, tenant := filepath.Base(filepath.Dir(file)), ""
		if above := filepath.Dir(filepath.Dir(file)); above != accounts {
			tenant = filepath.Base(above)
		}
		store := account.Open(e.cfg.State, tenant)
		pins, err := store.Pins(host)
		if err != nil {
			e.addFor(tenant, "host "+host, "", err)
			continue
		}
		key := tenant + "\x00node " + host
		if len(pins.TLS) > 0 && !e.reported[key+" REST"] {
			e.addFor(tenant, "host "+host+" REST", "shows the pinned certificate", e.shown(ctx, store, host, pins))
		}
		if len(pins.SSH) > 0 && !e.reported[key+" SSH"] {
			e.addFor(tenant, "host "+host+" SSH", "shows the pinned key", e.key(ctx, store, host, pins))
		}
	}
}

func (e *examination) shown(ctx context.Context, store *account.Store, host string, pins account.Pins) error {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	addr := host + ":443"
	leaf, err := shownBy(ctx, e.network, host, addr)
	if err != nil {
		return err
	}
	if got := fingerprint(leaf); !slices.Contains(pins.TLS, got) {
		return &problem.Error{
			Kind: problem.Untrusted, Target: addr, Message: "it shows another certificate than the pinned one: " + got,
			Hint: store.TrustCommand(host, 0, 0) + " shows it and asks",
		}
	}
	return nil
}

func (e *examination) key(ctx context.Context, store *account.Store, host string, pins account.Pins) error {
	addr := host + ":22"
	key, err := ssh.HostKey(ctx, addr, e.network.Dial)
	if err != nil {
		return problem.At(err, "", addr)
	}
	if !slices.Contains(pins.SSH, key) {
		return &problem.Error{
			Kind: problem.Untrusted, Target: addr, Message: "it shows another host key than the pinned one: " + key,
			Hint: store.TrustCommand(host, 0, 0) + " shows it and asks",
		}
	}
	return nil
}
