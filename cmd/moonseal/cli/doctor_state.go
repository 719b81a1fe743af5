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

// state looks at the state folder: the daemon, the journal, and the modes of files.
func (e *examination) state(ctx context.Context) {
	c := e.app.daemon(e.cfg)
	runs := c.Alive(ctx)
	if runs {
		_, err := c.Status(ctx)
		e.add("daemon", "listens on "+e.cfg.Listen.Socket, err)
	} else {
		e.add("daemon", "none runs", nil)
	}
	if _, err := os.ReadDir(e.cfg.State); runs && errors.Is(err, fs.ErrPermission) {
		_, err := c.Records().Runs(ctx, journal.Filter{Limit: 1})
		e.add("journal", "the daemon reads it", err)
		e.add("modes of files", "not looked at: the state folder is the daemon's user's alone, and only that one sees into it", nil)
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
	e.add("modes of files", "nobody else can use them", e.modes())
	e.add("socket", "for "+cmp.Or(e.cfg.Listen.Group, "its owner"), e.socket())
}

// socket refuses one that the group which is to use it cannot reach.
func (e *examination) socket() error {
	l := e.cfg.Listen
	if rel, err := filepath.Rel(e.cfg.State, l.Socket); l.Group == "" || err != nil || strings.HasPrefix(rel, "..") {
		return nil //nolint:nilerr // it is elsewhere
	}
	return &problem.Error{
		Kind: problem.Usage, Target: l.Socket, Message: "group " + l.Group + " cannot reach it: the state folder is its owner's alone",
		Hint: "listen: { socket: /run/moonseal/moonseal.sock, group: " + l.Group + " }",
	}
}

// modes refuses what others can read or write below the state folder, and what is
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
			Kind: problem.Usage, Target: strange[0], Message: fmt.Sprintf("it is not %s's, as the state folder is, and %d more", userName(owner), len(strange)-1),
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
