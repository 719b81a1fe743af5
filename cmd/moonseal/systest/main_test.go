package systest

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// root is the repository's top level, and examples what it shows to users.
var (
	root     = filepath.Join("..", "..", "..")
	examples = filepath.Join(root, "examples")
)

// program is the moonseal under test, which TestMain builds.
var program string

// patience bounds everything that a test waits for.
const patience = 60 * time.Second

// The program's exit codes, as the README lists them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitParked  = 4
	exitWaiting = 5
)

// raceVariable has the options of the race detector.
const raceVariable = "GORACE"

// full reports whether the tests must do all that they otherwise do a sample of.
func full() bool { return os.Getenv("MOONSEAL_TEST") == "full" }

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // scripts and configs that others can write are refused
	// The race detector's processes would sleep for a second at their end.
	_ = os.Setenv(raceVariable, cmp.Or(os.Getenv(raceVariable), "atexit_sleep_ms=0"))
	// The tests here wait for other processes, and for time to pass in them.
	_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	os.Exit(built(m.Run))
}

// built builds the program, and returns what run does with it.
func built(run func() int) int {
	dir, err := os.MkdirTemp("", "moonseal-systest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "moonseal")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/moonseal")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return run()
}

// read returns a file's text, "" if there is no such file.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}
