package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// folder makes the current folder one below the test's, which others can enter, and
// returns the test's.
func folder(t *testing.T) string {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	here := filepath.Join(top, "here")
	must(t, err, os.Chmod(filepath.Dir(top), 0o755), os.Chmod(top, 0o755), os.Mkdir(here, 0o755), os.Chmod(here, 0o755))
	t.Chdir(here)
	return top
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

const runsPrograms = "secrets: { A: { exec: [sh, -c, 'echo x'] } }\n"

// A config in the current folder is used only if nobody else can have put it there.
func TestLocalConfigThatOthersCanChange(t *testing.T) {
	for name, c := range map[string]struct {
		change func(top string) error
		root   bool
		says   string
	}{
		"one's own":              {change: func(string) error { return nil }},
		"below a sticky folder":  {change: func(top string) error { return os.Chmod(top, 0o777|os.ModeSticky) }},
		"in a sticky folder":     {change: func(top string) error { return os.Chmod(top+"/here", 0o777|os.ModeSticky) }, says: "(mode 1777)"},
		"in a folder of a group": {change: func(top string) error { return os.Chmod(top+"/here", 0o775) }, says: "(mode 0775)"},
		"below a folder of all":  {change: func(top string) error { return os.Chmod(top, 0o777) }, says: "(mode 0777)"},
		"another user's":         {change: func(top string) error { return os.Chown(top+"/here/moonseal.yaml", 4242, 0) }, root: true, says: "belongs to uid 4242"},
		"another user's folder":  {change: func(top string) error { return os.Chown(top+"/here", 4242, 0) }, root: true, says: "belongs to uid 4242"},
		"another user's link": {change: func(string) error {
			return errors.Join(os.Rename("moonseal.yaml", "real.yaml"), os.Symlink("real.yaml", "moonseal.yaml"), os.Lchown("moonseal.yaml", 4242, 0))
		}, root: true, says: "this link belongs to uid 4242"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			top := folder(t)
			must(t, os.WriteFile("moonseal.yaml", []byte(runsPrograms), 0o600), c.change(top))
			got, err := Load("", os.Getenv)
			if c.says == "" {
				if err != nil || len(got.Secrets) != 1 {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "moonseal.yaml is not used, because others can change it") || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%+v, %v", got, err)
			}
			named, _ := strings.CutPrefix(problem.From(err).Hint, "if it is the right one: --config ")
			if got, err := Load(named, os.Getenv); err != nil || len(got.Secrets) != 1 {
				t.Errorf("named as the hint says: %v", err)
			}
		})
	}
}

// What this user may not read counts as absent: sudo -u moonseal moonseal … works in
// every folder.
func TestUnreadableLocalConfig(t *testing.T) {
	var mode os.FileMode
	if os.Geteuid() == 0 {
		mode = 0o700 // of root, and the test is another user
	}
	for name, hide := range map[string]func(top string) error{
		"folder that cannot be entered": func(top string) error { return os.Chmod(top+"/here", mode) },
		"file that cannot be read":      func(string) error { return os.Chmod("moonseal.yaml", mode) },
	} {
		t.Run(name, func(t *testing.T) {
			top := folder(t)
			must(t, os.WriteFile("moonseal.yaml", []byte(runsPrograms), 0o600), os.WriteFile(top+"/system.yaml", nil, 0o644), hide(top))
			defer func() { _ = os.Chmod(top+"/here", 0o700) }()
			asOther(t, func() {
				if path, err := find(top + "/system.yaml"); path != top+"/system.yaml" || err != nil {
					t.Errorf("got %q, %v", path, err)
				}
				if path, err := find(top + "/none.yaml"); err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(problem.From(err).Hint, "--config") {
					t.Errorf("with no other: %q, %v", path, err)
				}
			})
		})
	}
	top := folder(t)
	if path, err := find(top + "/none.yaml"); path != "" || err != nil {
		t.Errorf("none at all: %q, %v", path, err)
	}
}

// asOther calls f; if this is root, in a thread that may read what any user may.
func asOther(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() { // its thread ends with it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setfsuid(4242); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestConfigThatIsNoRegularFile(t *testing.T) {
	top := folder(t)
	must(t, syscall.Mkfifo(top+"/fifo", 0o600), syscall.Mkfifo("moonseal.yaml", 0o600))
	for _, path := range []string{top + "/fifo", "/dev/null", "/dev/zero", top, ""} {
		if _, err := Load(path, os.Getenv); err == nil || !strings.Contains(err.Error(), "cannot read the config: not a regular file") {
			t.Errorf("%q: %v", path, err)
		}
	}
}
