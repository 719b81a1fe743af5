package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// state checks the state directory: the daemon, the journal, and the modes of files.
func (e *examination) state(ctx context.Context) {
	_, err := e.op.Status(ctx)
	runs := !problem.HasCode(err, problem.NeedsDaemon)
	if runs {
		e.add("daemon", "listens on "+e.cfg.Listen.Socket, err)
	} else {
		e.add("daemon", "not running", nil)
	}
	if _, err := os.ReadDir(e.cfg.State); runs && errors.Is(err, fs.ErrPermission) {
		e.add("journal", "the daemon reads it", e.recordsRead(ctx))
		e.add("modes of files", "not checked: only the daemon's user may read the state directory", nil)
		e.apart = true
		return
	}
	switch j, err := journal.OpenReadOnly(ctx, e.cfg.State); {
	case err != nil && problem.From(err).Kind == problem.NotFound:
		e.add("journal", "none yet in "+e.cfg.State, nil)
	case err != nil:
		e.add("journal", "", err)
	default:
		_, err := j.Runs(ctx, journal.Filter{Limit: 1})
		e.add("journal", e.cfg.State, errors.Join(err, j.Close()))
	}
	e.add("modes of files", "only their owner can use them", e.modes())
	e.add("socket", "for "+cmp.Or(e.cfg.Listen.Group, "its owner"), e.socket())
}

// recordsRead reads from the journal as the operator has it.
func (e *examination) recordsRead(ctx context.Context) error {
	records, err := e.op.Records(ctx)
	if err == nil {
		_, err = records.Runs(ctx, journal.Filter{Limit: 1})
	}
	return err
}

// socket refuses one that its group cannot reach.
func (e *examination) socket() error {
	l := e.cfg.Listen
	if rel, err := filepath.Rel(e.cfg.State, l.Socket); l.Group == "" || err != nil || strings.HasPrefix(rel, "..") {
		return nil //nolint:nilerr // it is elsewhere
	}
	return &problem.Error{
		Kind: problem.Usage, Target: l.Socket, Message: "group " + l.Group + " cannot reach it: the state directory is its owner's alone",
		Hint: "listen: { socket: /run/moonseal/moonseal.sock, group: " + l.Group + " }",
	}
}

// modes refuses what others can read or write below the state directory, and what is
// not its owner's.
func (e *examination) modes() error {
	var open, strange []string
	owner := -1
	err := filepath.WalkDir(e.cfg.State, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path == e.cfg.State {
			owner = uidOf(info)
		}
		if uidOf(info) != owner {
			strange = append(strange, path)
		}
		others := fs.FileMode(0o077)
		if d.IsDir() {
			others = 0o022
		}
		if d.Type()&(fs.ModeSymlink|fs.ModeSocket) == 0 && info.Mode().Perm()&others != 0 {
			open = append(open, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(strange) > 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: strange[0], Message: fmt.Sprintf("not owned by %s, as the state directory is, and %d more", userName(owner), len(strange)-1),
			Hint: fmt.Sprintf("chown -R %s: %s", userName(owner), e.cfg.State),
		}
	}
	if len(open) > 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: open[0], Message: fmt.Sprintf("others can use it, and %d more", len(open)-1),
			Hint: "chmod -R go-rwx " + e.cfg.State,
		}
	}
	return nil
}
