package cli

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/scripts"
)

// TestScripts runs the scripts in testdata, and those that commandTests marks so once more
// with a daemon in the background.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("", nil))
	t.Run("daemon", func(t *testing.T) {
		testscript.Run(t, scriptParams("daemon", twiceScripts()))
	})
}

// scriptParams are for the files, or all of testdata if there are none. In the mode
// "daemon" the command daemon starts one, and else does nothing.
func scriptParams(mode string, files []string) testscript.Params {
	dir := "testdata"
	if len(files) > 0 {
		dir = ""
	}
	return testscript.Params{
		Dir: dir, Files: files, RequireExplicitExec: true, RequireUniqueNames: true, Cmds: scriptCommands(),
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil // root reads everything
			case "race":
				return raceDetector, nil // its processes have no limit of memory
			case "daemon":
				return mode == name, nil
			}
			return false, fmt.Errorf("there is no condition %q", name)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv(raceVariable, os.Getenv(raceVariable))
			e.Values[labKey{}] = &scriptLab{withDaemon: mode == "daemon"}
			return nil
		},
	}
}

// scriptCommands are what the scripts in testdata have beside testscript's own.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	plain := func(args int, usage string, do func(*testscript.TestScript, *scriptLab, []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, got []string) {
			if neg || len(got) < args {
				ts.Fatalf("usage: %s", usage)
			}
			l, _ := ts.Value(labKey{}).(*scriptLab)
			do(ts, l, got)
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"code":    plain(2, "code N COMMAND…: exec, with this exit code", code),
		"lab":     plain(0, "lab", startScriptLab),
		"daemon":  plain(1, "daemon CONFIG, daemon stop: starts the daemon, again with the environment as it is now; only in the mode with a daemon", scriptDaemon),
		"env-of":  plain(1, "env-of DIR", envOf),
		"fault":   plain(1, "fault CALL KIND [TIMES [CODE]], fault held, fault clear", fault),
		"node":    plain(2, "node HOST CHANGE.json", changeNode),
		"ledger":  plain(3, "ledger DIR txt|orders|certificates|uploads|csrs|logins-refused|tomcat-restarts N", ledgerCount),
		"renewed": plain(2, "renewed DIR HOST", renewed),
		"lastrun": plain(1, "lastrun STATE: sets RUN to the latest run's id, and NEARRUN to one that is not there", latestRun),
		"schema":  plain(1, "schema NAME: validates each line of stdout", checkSchema),
		"waitfor": plain(1, "waitfor FILE", waitForFile),
		"version": plain(2, "version STATE N: sets the journal's version", journalVersion),
	}
}

type labKey struct{}

// scriptLab is the lab of a script that has one of its own, in this process:
// quicker than one in a process of its own.
type scriptLab struct {
	lab   *lab.World
	fault int // the latest one's id

	withDaemon bool
	stop       func() // ends the daemon that runs; nil if none does
}

// bounded is a context for one command of a script.
func bounded(ts *testscript.TestScript) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ts.Defer(cancel)
	return ctx
}

// startScriptLab starts a lab in the folder D, with the scripts of D/scripts, or
// those that ship, and puts its secrets into the environment.
func startScriptLab(ts *testscript.TestScript, l *scriptLab, _ []string) {
	opts := lab.Options{Dir: ts.MkAbs("D"), Scripts: scripts.Playbooks()}
	opts.Behavior.RestartOutage = -1
	started, err := lab.Start(context.Background(), opts)
	ts.Check(err)
	ts.Defer(func() { ts.Check(started.Close()) })
	l.lab = started
	setAll(ts, started.Environ())
}

// scriptDaemon starts a daemon with the script's environment, in place of the one that runs.
func scriptDaemon(ts *testscript.TestScript, l *scriptLab, args []string) {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	if !l.withDaemon || args[0] == "stop" {
		return
	}
	cfg, err := config.Load(ts.MkAbs(args[0]), ts.Getenv)
	ts.Check(err)
	program, err := exec.LookPath("moonseal")
	ts.Check(err)
	ts.Check(ts.Exec("env", "-0"))
	cmd := exec.Command(program, "serve", "--config", ts.MkAbs(args[0]))
	cmd.Dir, cmd.Env = ts.MkAbs("."), strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\x00"), "\x00")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	l.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := <-ended; err != nil {
			ts.Logf("the daemon ended: %v", err)
		}
		ts.Logf("[daemon]\n%s", log.String())
	})
	ts.Defer(l.stop)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	ctx := bounded(ts)
	client := api.Dial(cfg.Listen.Socket)
	for client.Reach(ctx) != nil {
		select {
		case <-again.C:
		case <-ctx.Done():
			ts.Fatalf("the daemon does not answer")
		}
	}
}

// code is exec for a command that ends with a certain exit code.
func code(ts *testscript.TestScript, _ *scriptLab, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// envOf puts the secrets of a lab in another process into the environment.
func envOf(ts *testscript.TestScript, _ *scriptLab, args []string) {
	setAll(ts, strings.Fields(ts.ReadFile(filepath.Join(args[0], "lab.env"))))
}

func setAll(ts *testscript.TestScript, environ []string) {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		ts.Setenv(name, value)
	}
}

func fault(ts *testscript.TestScript, l *scriptLab, args []string) {
	switch args[0] {
	case "clear":
		l.lab.Faults().Clear()
		return
	case "held":
		ts.Check(l.lab.Faults().WaitHeld(bounded(ts), l.fault))
		return
	}
	f := faults.Fault{Call: args[0], Kind: faults.Kind(args[1])}
	for i, into := range []*int{&f.Times, &f.Code} {
		if len(args) > 2+i {
			n, err := strconv.Atoi(args[2+i])
			ts.Check(err)
			*into = n
		}
	}
	id, err := l.lab.Faults().Add(f)
	ts.Check(err)
	l.fault = id
}

func changeNode(ts *testscript.TestScript, l *scriptLab, args []string) {
	var change lab.NodeChange
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &change))
	client := lab.Client{URL: l.lab.ControlURL()}
	_, err := client.ChangeNode(bounded(ts), args[0], change)
	ts.Check(err)
}

func readLedger(ts *testscript.TestScript, dir string) *lab.Ledger {
	client, err := lab.Open(ts.MkAbs(dir))
	ts.Check(err)
	l, err := client.Ledger(bounded(ts))
	ts.Check(err)
	return l
}

func ledgerCount(ts *testscript.TestScript, _ *scriptLab, args []string) {
	l := readLedger(ts, args[0])
	got := map[string]int{"txt": len(l.TXT.Present), "orders": len(l.Orders), "certificates": len(l.Certificates), "uploads": len(l.Uploads), "csrs": len(l.CSRs), "logins-refused": 0, "tomcat-restarts": 0}
	for _, login := range l.Logins {
		if !login.OK {
			got["logins-refused"]++
		}
	}
	for _, r := range l.Restarts {
		if r.Service == "Cisco Tomcat" {
			got["tomcat-restarts"]++
		}
	}
	n, known := got[args[1]]
	if !known || strconv.Itoa(n) != args[2] {
		ts.Fatalf("the lab has %d %s, want %s", n, args[1], args[2])
	}
}

// renewed checks that a host serves the certificate that was issued last.
func renewed(ts *testscript.TestScript, _ *scriptLab, args []string) {
	l := readLedger(ts, args[0])
	if n := len(l.Certificates); n == 0 || l.Served[args[1]] != l.Certificates[n-1].SHA256 {
		ts.Fatalf("%s serves %s; issued: %+v", args[1], l.Served[args[1]], l.Certificates)
	}
}

func latestRun(ts *testscript.TestScript, _ *scriptLab, args []string) {
	ctx := bounded(ts)
	j, err := journal.OpenReadOnly(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { ts.Check(j.Close()) }()
	runs, err := j.Runs(ctx, journal.Filter{Limit: 1})
	ts.Check(err)
	if len(runs) == 0 {
		ts.Fatalf("there is no run")
	}
	ts.Setenv("RUN", runs[0].ID)
	other := "x"
	if strings.HasSuffix(runs[0].ID, other) {
		other = "y"
	}
	ts.Setenv("NEARRUN", runs[0].ID[:len(runs[0].ID)-1]+other)
}

func waitForFile(ts *testscript.TestScript, _ *scriptLab, args []string) {
	ctx := bounded(ts)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

func journalVersion(ts *testscript.TestScript, _ *scriptLab, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	db, err := sql.Open("sqlite", ts.MkAbs(filepath.Join(args[0], "moonseal.db")))
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	_, err = db.ExecContext(bounded(ts), "PRAGMA user_version = "+strconv.Itoa(n))
	ts.Check(err)
}
