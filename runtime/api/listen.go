package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// maxPath bounds a socket's path, in bytes (unix(7), sun_path).
const maxPath = 107

// Listen opens the socket at path: 0600, or 0660 for group if it is not "". A socket that a
// dead daemon left is replaced; the caller must hold the lock of the state directory, so
// that no other daemon lives.
func Listen(path, group string) (net.Listener, error) {
	failed := func(err error) error {
		return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot listen: " + problem.Reason(err), Cause: err, Hint: "listen.socket in the config names another path"}
	}
	notForGroup := func(err error) error {
		return &problem.Error{
			Kind: problem.Usage, Target: path, Message: "cannot be opened to the group " + group + ": " + problem.Reason(err), Cause: err,
			Hint: "listen.group in the config names it",
		}
	}
	if len(path) > maxPath {
		return nil, failed(fmt.Errorf("the path of a socket has at most %d bytes, this one has %d", maxPath, len(path)))
	}
	if err := removeSocket(path); err != nil {
		return nil, failed(err)
	}
	old := unix.Umask(0o177) // the socket must never have more rights than in the end
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, failed(err)
	}
	if group == "" {
		return l, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil, errors.Join(notForGroup(err), l.Close())
	}
	gid, err := strconv.Atoi(g.Gid)
	if err == nil {
		err = share(path, gid)
	}
	if err != nil {
		return nil, errors.Join(notForGroup(err), l.Close())
	}
	return l, nil
}

// share makes the socket accessible to a group. A service that may not change owners can
// still use its own group.
func share(path string, gid int) error {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil && int(st.Gid) != gid {
		err = os.Chown(path, -1, gid)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o660) //nolint:gosec // the group is the config's
}

// removeSocket removes the socket that a dead daemon left, and nothing else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("not a socket")
	}
	return os.Remove(path)
}
