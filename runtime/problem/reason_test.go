package problem

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestReason(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	const missing = "no such file or directory"
	_, opened := os.Open(none)
	_, listened := net.Listen("unix", filepath.Join(none, "s"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{opened, missing},
		{os.Rename(none, none+"2"), missing},
		{os.Mkdir(filepath.Join(none, "x"), 0o700), missing},
		{listened, missing},
		{exec.CommandContext(t.Context(), "no-such-program-here").Run(), "executable file not found in $PATH"},
		{fmt.Errorf("line 3: %w", errors.New("too long")), "line 3: too long"},
	} {
		if got := Reason(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
