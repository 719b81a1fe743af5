package safefile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, syscall.Mkfifo(at("fifo"), 0o600), os.WriteFile(at("file"), []byte("text"), 0o600), os.Symlink("fifo", at("link")))
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", at("socket"))
	check(t, err)
	defer socket.Close()
	for _, path := range []string{at("fifo"), at("link"), at("socket"), dir, "/dev/zero", "/dev/null"} {
		if _, _, err := safefile.Read(path, 10); !errors.Is(err, safefile.ErrNotRegular) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if data, info, err := safefile.Read(at("file"), 4); err != nil || string(data) != "text" || info.Size() != 4 {
		t.Errorf("%q, %v", data, err)
	}
	if _, _, err := safefile.Read(at("file"), 3); !errors.Is(err, safefile.ErrTooLarge) {
		t.Errorf("a file of 4 bytes for 3: %v", err)
	}
	if _, _, err := safefile.Read(at("none"), 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Each case is a way in which others could change what is read.
func TestCheckNamesWhoCanChangeAFile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(at func(string) string) error
		says   string // "" for a file that is taken
		at     string
	}{
		"as it should be":             {func(func(string) string) error { return nil }, "", ""},
		"file of all":                 {func(at func(string) string) error { return os.Chmod(at("a/b/file"), 0o666) }, "others can write it (mode 0666)", "a/b/file"},
		"file of its group":           {func(at func(string) string) error { return os.Chmod(at("a/b/file"), 0o660) }, "others can write it (mode 0660)", "a/b/file"},
		"folder of all":               {func(at func(string) string) error { return os.Chmod(at("a/b"), 0o777) }, "others can write this folder (mode 0777)", "a/b"},
		"folder above of its group":   {func(at func(string) string) error { return os.Chmod(at("a"), 0o775) }, "others can write this folder (mode 0775)", "a"},
		"straight in a sticky folder": {func(at func(string) string) error { return os.Chmod(at("a/b"), 0o777|os.ModeSticky) }, "(mode 1777)", "a/b"},
		"below a sticky folder":       {func(at func(string) string) error { return os.Chmod(at("a"), 0o777|os.ModeSticky) }, "", ""},
		"link through a folder of all": {func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o777), os.Rename(at("a/b/file"), at("file")),
				os.Symlink("../../file", at("open/hop")), os.Rename(at("open/hop"), at("hop")), os.Symlink("../file", at("open/hop")), os.Symlink("../../open/hop", at("a/b/file")))
		}, "others can write this folder (mode 0777)", "open"},
		"symlink loop": {func(at func(string) string) error {
			return errors.Join(os.Remove(at("a/b/file")), os.Symlink("file", at("a/b/file")))
		}, "symlink loop", "a/b/file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t)
			at := func(name string) string { return filepath.Join(dir, name) }
			check(t, c.change(at))
			err := safefile.Policy{User: os.Geteuid()}.Check(at("a/b/file"))
			if c.says == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || problem.From(err).Target != at(c.at) {
				t.Errorf("got %v, want %s: %s", err, at(c.at), c.says)
			}
		})
	}
}

func TestCheckNamesOtherOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for _, name := range []string{"a", "a/b", "a/b/file"} {
		dir := tree(t)
		path := filepath.Join(dir, name)
		check(t, os.Chown(path, 4242, 0))
		err := safefile.Policy{User: 0}.Check(filepath.Join(dir, "a/b/file"))
		if err == nil || problem.From(err).Target != path || !strings.Contains(err.Error(), "belongs to uid 4242") {
			t.Errorf("%s of another user: %v", name, err)
		}
		check(t, safefile.Policy{User: 4242}.Check(filepath.Join(dir, "a/b/file")), safefile.Policy{AnyOwner: true}.Check(filepath.Join(dir, "a/b/file")))
	}
	dir := tree(t)
	check(t, os.Symlink("a", filepath.Join(dir, "link")), os.Lchown(filepath.Join(dir, "link"), 4242, 0))
	if err := (safefile.Policy{User: 0}).Check(filepath.Join(dir, "link/b/file")); err == nil || !strings.Contains(err.Error(), "this link belongs to uid 4242") {
		t.Errorf("a link of another user: %v", err)
	}
}

// Kubernetes mounts secrets read-only, with modes that say that all can write.
func TestWhatIsMountedReadOnlyIsNotWritable(t *testing.T) {
	dir := tree(t)
	check(t, os.Chmod(filepath.Join(dir, "a/b"), 0o777|os.ModeSticky))
	p := safefile.Policy{User: os.Geteuid(), ReadOnly: func(path string) bool { return path == filepath.Join(dir, "a/b") }}
	check(t, p.Check(filepath.Join(dir, "a/b/file")))
}

// tree returns a folder with a/b/file in it.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	check(t, err, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/file"), nil, 0o600),
		os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "a"), 0o755), os.Chmod(filepath.Join(dir, "a/b"), 0o755))
	return dir
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
