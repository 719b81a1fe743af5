package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// openJournal opens the journal to write, where the state folder is this user's.
func (a *app) openJournal(ctx context.Context, cfg *config.Config) (*journal.Journal, error) {
	if err := ownState(cfg); err != nil {
		return nil, err
	}
	j, err := journal.Open(ctx, cfg.State, journal.Options{Clock: a.clock, Log: slog.New(a.logHandler(cfg))})
	if err != nil {
		return nil, err
	}
	if err := control.TakeOver(ctx, j); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// ownState refuses a state folder of another user's: what root writes there, the
// daemon could not read.
func ownState(cfg *config.Config) error {
	info, err := os.Stat(cfg.State)
	if err != nil {
		return nil //nolint:nilerr // it is made, or whoever opens it says what is wrong
	}
	owner, mine := uidOf(info), os.Geteuid()
	if owner < 0 || owner == mine {
		return nil
	}
	name := userName(owner)
	e := &problem.Error{
		Kind: problem.Usage, Target: cfg.State, Message: "the state folder is " + name + "'s: what another user writes there, " + name + " could not read",
		Hint: "run it as sudo -u " + name + " moonseal …",
	}
	if owner == 0 {
		e.Hint = "use sudo, or name a state folder of your own in the config"
	}
	return e
}

// uidOf returns who owns a file; -1 where that is not known.
func uidOf(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}
