package cli

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/rogpeppe/go-internal/testscript"

	"moonseal/modules/acme/acmetest"
	"moonseal/runtime/run"
)

// TestMain makes the test binary a moonseal too: under that name, on the PATH of
// the tests, it is the program with a hook that kills it.
func TestMain(m *testing.M) {
	acmetest.Main()
	syscall.Umask(0o022) // scripts and configs that others can write are refused
	// The race detector's processes would sleep for a second at their end.
	_ = os.Setenv(raceVariable, cmp.Or(os.Getenv(raceVariable), "atexit_sleep_ms=0"))
	// The tests here wait for other processes, and for time to pass in them.
	_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	testscript.Main(m, map[string]func(){"loner": loner, "moonseal": func() {
		a := &app{args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, clock: clockwork.NewRealClock()}
		a.build = cmp.Or(os.Getenv(buildVariable), "test")
		a.childEnv = []string{raceVariable + "=" + os.Getenv(raceVariable)}
		if kill := os.Getenv(killVariable); kill != "" {
			a.childEnv = append(a.childEnv, killVariable+"="+kill)
			a.trace = killer(kill)
		}
		os.Exit(a.main())
	}})
}

// raceVariable has the options of the race detector.
const raceVariable = "GORACE"

// buildVariable says what build the program is, but not its children.
const buildVariable = "MOONSEAL_TEST_BUILD"

// killVariable names a point, what it is of, and how many times it passes before
// the process and its parent are killed, as kill -9 would: "after-mark cucm.Node:upload 1".
// With a fourth word, child, the parent lives on.
const killVariable = "MOONSEAL_TEST_KILL"

func killer(spec string) func(run.Point, string) {
	fields := strings.Fields(spec)
	at, what := fields[0], fields[1]
	left, err := strconv.Atoi(fields[2])
	if err != nil {
		panic(fmt.Sprintf("%s=%q: %v", killVariable, spec, err))
	}
	return func(p run.Point, name string) {
		if string(p) != at || name != what {
			return
		}
		if left--; left == 0 {
			if len(fields) < 4 {
				_ = syscall.Kill(os.Getppid(), syscall.SIGKILL)
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
