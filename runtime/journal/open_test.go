package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

func TestStateIsThePersonsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	j := openTest(t, dir)
	newRun(t, j, "p")
	for path, want := range map[string]os.FileMode{dir: 0o700, "moonseal.db": 0o600, "moonseal.db-wal": 0o600, "moonseal.db-shm": 0o600, "moonseal.lock": 0o600} {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	for pragma, want := range map[string]string{"synchronous": "2", "foreign_keys": "1", "journal_mode": "wal", "busy_timeout": "5000"} {
		must(t, j.w.do(t.Context(), &request{fn: func(w *conn) error {
			var got string
			err := w.row("PRAGMA " + pragma).Scan(&got)
			if got != want {
				t.Errorf("%s is %s", pragma, got)
			}
			return err
		}}))
	}
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "MOONSEAL_TEST_WRITER="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the writer says nothing")
	}
	run, _, _ := strings.Cut(lines.Text(), " ")
	read := make(chan struct{})
	go func() { // or it waits for its reader
		defer close(read)
		for lines.Scan() {
		}
	}()
	_, err = Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) || problem.From(err).Kind != problem.Conflict || !strings.Contains(err.Error(), "process "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("second opener: %v", err)
	}
	ro, err := OpenReadOnly(t.Context(), dir)
	must(t, err)
	if _, err := ro.Run(t.Context(), run); err != nil {
		t.Errorf("read beside the writer: %v", err)
	}
	if err := ro.Write(t.Context(), Logged{}); !errors.Is(err, ErrClosed) {
		t.Errorf("write read-only: %v", err)
	}
	must(t, ro.Close())
	must(t, cmd.Process.Kill())
	<-read
	_ = cmd.Wait()
	// Read what a killed writer left in its log file, and then write.
	ro, err = OpenReadOnly(t.Context(), dir)
	must(t, err)
	if _, err := ro.Run(t.Context(), run); err != nil {
		t.Errorf("read after the writer: %v", err)
	}
	must(t, ro.Close())
	j := openTest(t, dir)
	if _, err := j.Run(t.Context(), run); err != nil {
		t.Error(err)
	}
	// The same process is a second one too.
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("same process: %v", err)
	}
}

func TestReadOnlyWithoutWriter(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenReadOnly(t.Context(), dir); problem.From(err).Kind != problem.NotFound {
		t.Errorf("missing: %v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("reading made %v", entries)
	}
	j := openTest(t, dir)
	s := newRun(t, j, "p")
	must(t, j.Close())
	if _, err := os.Stat(filepath.Join(dir, fileName+"-wal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Close left the log: %v", err)
	}
	ro, err := OpenReadOnly(t.Context(), dir)
	must(t, err)
	if _, err := ro.History(t.Context(), s.Run); err != nil {
		t.Error(err)
	}
	if _, err := ro.reads.ExecContext(t.Context(), "DELETE FROM runs"); err == nil {
		t.Error("a read-only journal was written")
	}
	must(t, ro.Close())
}

func TestPathsOfAllKinds(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"state", "./a b/ü?mode=ro#x%20", "."} {
		j := openTest(t, dir)
		s := newRun(t, j, "p")
		ro, err := OpenReadOnly(t.Context(), dir)
		must(t, err)
		if _, err := ro.Run(t.Context(), s.Run); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		must(t, errors.Join(ro.Close(), j.Close()))
		if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
			t.Error(err)
		}
	}
}

func TestMigrations(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	dir := t.TempDir()
	j := openTest(t, dir)
	s := newRun(t, j, "p")
	must(t, j.Close())

	// A newer moonseal adds a table; then one whose migration fails half-way.
	next := append(append([]string(nil), steps...), "CREATE TABLE more (x TEXT) STRICT; INSERT INTO more VALUES ('kept')")
	j, err = open(t.Context(), dir, Options{}, next)
	must(t, err)
	must(t, j.Close())
	bad := append(append([]string(nil), next...), "DELETE FROM more; CREATE TABLE runs (x)")
	if _, err = open(t.Context(), dir, Options{}, bad); err == nil {
		t.Fatal("a failed migration is not an error")
	}
	// One that leaves rows which refer to none.
	loose := append(append([]string(nil), next...), "DELETE FROM bundles")
	if _, err = open(t.Context(), dir, Options{}, loose); err == nil || !strings.Contains(err.Error(), "rows that refer to none, the first of table runs") {
		t.Fatalf("a migration that leaves loose rows: %v", err)
	}
	j, err = open(t.Context(), dir, Options{}, next)
	must(t, err)
	must(t, j.w.do(t.Context(), &request{fn: func(w *conn) error {
		var on bool
		if err := w.row("PRAGMA foreign_keys").Scan(&on); err != nil || !on {
			t.Errorf("foreign keys after an upgrade: %v, %v", on, err)
		}
		return nil
	}}))
	var kept string
	must(t, j.reads.QueryRowContext(t.Context(), "SELECT x FROM more").Scan(&kept))
	if _, err := j.Run(t.Context(), s.Run); err != nil {
		t.Error(err)
	}
	must(t, j.Close())

	before, err := os.ReadFile(filepath.Join(dir, fileName))
	must(t, err)
	for name, opening := range map[string]func() error{
		"write": func() error { _, err := Open(t.Context(), dir, Options{}); return err },
		"read":  func() error { _, err := OpenReadOnly(t.Context(), dir); return err },
	} {
		err := opening()
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version "+strconv.Itoa(len(next))) || problem.From(err).Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || string(after) != string(before) {
		t.Errorf("a newer journal was changed: %v", err)
	}
}

func TestDamagedJournal(t *testing.T) {
	whole := t.TempDir()
	j := openTest(t, whole)
	newRun(t, j, "p")
	must(t, j.Close())
	db, err := os.ReadFile(filepath.Join(whole, fileName))
	must(t, err)
	for name, content := range map[string]string{
		"no database": strings.Repeat("not a database ", 500),
		"cut":         string(db[:5000]),
		"overwritten": string(db[:100]) + strings.Repeat("\xff", len(db)-100),
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		must(t, os.WriteFile(path, []byte(content), 0o600))
		j, err := Open(t.Context(), dir, Options{})
		if err == nil {
			_, err = j.Runs(t.Context(), Filter{})
			_ = j.Close()
		}
		if err == nil || problem.From(err).Kind != problem.Usage || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestAnotherProgramsDatabase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	must(t, os.WriteFile(path, nil, 0o600))
	db, err := openDB(path, "rw", 1)
	must(t, err)
	_, err = db.ExecContext(t.Context(), "CREATE TABLE runs (x)")
	must(t, err)
	must(t, db.Close())
	if _, err := Open(t.Context(), dir, Options{}); problem.From(err) == nil || problem.From(err).Kind != problem.Usage || !strings.Contains(err.Error(), "another program") {
		t.Errorf("%v", err)
	}
}

func TestFoldersThatWillNotDo(t *testing.T) {
	open := t.TempDir()
	must(t, os.Chmod(open, 0o777))
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	isDir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(isDir, fileName), 0o700))
	readOnly := t.TempDir()
	must(t, os.Chmod(readOnly, 0o500))
	for name, dir := range map[string]string{"others can write": open, "a file": file, "below a file": filepath.Join(file, "x"), "a folder in its place": isDir, "read-only": readOnly} {
		if name == "read-only" && os.Getuid() == 0 {
			continue // root may write there
		}
		_, err := Open(t.Context(), dir, Options{})
		if e := problem.From(err); e == nil || e.Kind != problem.Usage || e.Hint == "" || !strings.Contains(e.Target, dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunLock(t *testing.T) {
	dir := t.TempDir()
	id := "0123456789"
	once, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := LockRun(once, dir, id)
	must(t, err)
	if _, err := LockRun(once, dir, id); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("held: %v", err)
	}
	must(t, RemoveRunLock(dir, id))
	if _, err := LockRun(once, dir, id); !errors.Is(err, ErrLocked) {
		t.Errorf("a lock that is held was removed: %v", err)
	}
	if held, err := RunLocked(dir, id); !held || err != nil {
		t.Errorf("a held lock is %v, %v", held, err)
	}
	if held, err := RunLocked(dir, "0000000000"); held || err != nil {
		t.Errorf("a lock that is not there is %v, %v", held, err)
	}
	got := make(chan error, 1)
	go func() {
		l, err := LockRun(t.Context(), dir, id) // waits
		if err == nil {
			err = errors.Join(l.Release(), RemoveRunLock(dir, id))
		}
		got <- err
	}()
	must(t, l.Release())
	must(t, <-got)
	if entries, err := os.ReadDir(filepath.Join(dir, "runs")); len(entries) != 0 || err != nil {
		t.Errorf("left behind: %v", entries)
	}
	if _, err := LockRun(once, dir, "../x"); problem.From(err).Kind != problem.Usage {
		t.Errorf("%v", err)
	}
}

// An old process that does not end, because it is stopped, is ended.
func TestTakeOverRunFromAStoppedProcess(t *testing.T) {
	dir, id := t.TempDir(), "0123456789"
	l, err := LockRun(t.Context(), dir, id)
	must(t, err)
	cmd := exec.Command("sleep", "600")
	cmd.ExtraFiles = []*os.File{l.File()}
	must(t, cmd.Start())
	must(t, l.HandOver(cmd.Process.Pid))
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	l, err = TakeOverRun(t.Context(), dir, id, 20*time.Millisecond)
	must(t, err)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended: %v", err)
	}
	must(t, l.Release())
}

// Who only reads brings no journal up to date, and says who does.
func TestOlderJournalIsNotRead(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	dir := t.TempDir()
	j, err := open(t.Context(), dir, Options{}, steps[:1])
	must(t, err)
	must(t, j.Close())
	before, err := os.ReadFile(filepath.Join(dir, fileName))
	must(t, err)
	_, err = OpenReadOnly(t.Context(), dir)
	e := problem.From(err)
	if err == nil || e.Kind != problem.Usage || !strings.Contains(e.Error(), fmt.Sprintf("version 1, this moonseal reads version %d", len(steps))) || !strings.Contains(e.Hint, "moonseal serve") {
		t.Errorf("%v; hint: %s", err, e.Hint)
	}
	after, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || !bytes.Equal(after, before) {
		t.Errorf("it was changed: %v", err)
	}
	must(t, openTest(t, dir).Close())
	j, err = OpenReadOnly(t.Context(), dir)
	must(t, err)
	must(t, j.Close())
}

// A damaged journal is moved away; what SQLite left beside it belongs to no copy that
// is put in its place.
func TestRestoreBesideALeftLog(t *testing.T) {
	dir := t.TempDir()
	j := openTest(t, dir)
	kept := newRun(t, j, "kept")
	var copied bytes.Buffer
	must(t, j.Backup(t.Context(), &copied))
	for range 50 {
		newRun(t, j, "later")
	}
	log, err := os.ReadFile(filepath.Join(dir, fileName+"-wal")) // as kill -9 leaves it
	must(t, err)
	must(t, j.Close())
	must(t, os.Remove(filepath.Join(dir, fileName)))
	must(t, os.WriteFile(filepath.Join(dir, fileName+"-wal"), log, 0o600))
	from := filepath.Join(t.TempDir(), "copy")
	must(t, os.WriteFile(from, copied.Bytes(), 0o600))
	must(t, Restore(t.Context(), dir, from))
	j = openTest(t, dir)
	runs, err := j.Runs(t.Context(), Filter{})
	if err != nil || len(runs) != 1 || runs[0].ID != kept.Run {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}

func TestProbe(t *testing.T) {
	j := openTest(t, t.TempDir())
	before := j.Stats().Commits
	must(t, j.Probe(t.Context()))
	if j.Stats().Commits != before+1 {
		t.Error("nothing is committed")
	}
	must(t, j.w.do(t.Context(), &request{fn: func(w *conn) error {
		_, err := w.c.ExecContext(w.ctx, "PRAGMA query_only = 1")
		return err
	}}))
	if err := j.Probe(t.Context()); err == nil {
		t.Error("a journal that cannot be written takes all")
	}
}
