package journal

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moonseal/runtime/problem"
)

// older returns a state directory with a run in a journal of an older version.
func older(t *testing.T, steps []string) (dir string, s Stamp) {
	t.Helper()
	dir = t.TempDir()
	j, err := open(t.Context(), dir, Options{}, steps)
	must(t, err)
	s = newRun(t, j, "p")
	must(t, j.Close())
	return dir, s
}

// A journal of an older version is copied first, and the copy is what the version
// before continues with: opened by it, or restored by this one.
func TestUpgradeKeepsACopy(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	next := append(append([]string(nil), steps...), "CREATE TABLE more (x TEXT) STRICT; DELETE FROM bundles WHERE hash NOT IN (SELECT bundle FROM runs)")
	dir, s := older(t, steps)
	backup := backupPath(filepath.Join(dir, fileName), len(steps))
	must(t, os.WriteFile(backup+".new", []byte("half a copy of a start that was killed"), 0o600))
	var log bytes.Buffer
	j, err := open(t.Context(), dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, next)
	must(t, err)
	_, err = j.Run(t.Context(), s.Run)
	must(t, errors.Join(err, j.Close()))
	info, err := os.Stat(backup)
	if err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(log.String(), backup) {
		t.Errorf("%v, %v; log: %s", info, err, log.String())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new*")); len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// There is one for each upgrade, and none without.
	log.Reset()
	must(t, os.Remove(backup))
	j, err = open(t.Context(), dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, next)
	must(t, errors.Join(err, j.Close()))
	if _, err := os.Stat(backup); !errors.Is(err, fs.ErrNotExist) || log.Len() > 0 {
		t.Errorf("without an upgrade: %v; log: %s", err, log.String())
	}
}

func TestDowngradeIsRestoreOfTheCopy(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	dir, s := older(t, steps)
	next := append(append([]string(nil), steps...), "CREATE TABLE more (x TEXT) STRICT")
	j, err := open(t.Context(), dir, Options{}, next)
	must(t, errors.Join(err, j.Close()))
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrNewer) {
		t.Fatalf("the version before takes the newer journal: %v", err)
	}
	path := filepath.Join(dir, fileName)
	must(t, os.Rename(path, path+".away"))
	must(t, Restore(t.Context(), dir, backupPath(path, len(steps))))
	j = openTest(t, dir)
	if _, err := j.Run(t.Context(), s.Run); err != nil {
		t.Error(err)
	}
}

// A copy of an older version is restored, and brought up to date when it is opened.
func TestRestoreOfAnOlderCopy(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	for have := 1; have < len(steps); have++ {
		dir := t.TempDir()
		j, err := open(t.Context(), dir, Options{}, steps[:have])
		must(t, errors.Join(err, j.Close()))
		into := t.TempDir()
		must(t, Restore(t.Context(), into, filepath.Join(dir, fileName)))
		j, err = Open(t.Context(), into, Options{Copied: true})
		must(t, err)
		newRun(t, j, "p")
		must(t, j.Close())
		if left, err := filepath.Glob(filepath.Join(into, "*-backup*")); len(left) > 0 || err != nil {
			t.Errorf("a copy was copied: %v, %v", left, err)
		}
	}
}

// A journal that cannot be copied stays as it is, and nothing starts.
func TestUpgradeWithoutACopy(t *testing.T) {
	steps, err := migrations()
	must(t, err)
	dir, s := older(t, steps)
	path := filepath.Join(dir, fileName)
	must(t, os.MkdirAll(filepath.Join(backupPath(path, len(steps)), "in the way"), 0o700))
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = open(t.Context(), dir, Options{}, append(append([]string(nil), steps...), "CREATE TABLE more (x TEXT) STRICT"))
	if e := problem.From(err); err == nil || !strings.Contains(e.Message, "cannot copy the journal before the upgrade: ") || e.Target != backupPath(path, len(steps)) || e.Hint == "" {
		t.Fatalf("%v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the journal was changed: %v", err)
	}
	if _, err := openTest(t, dir).Run(t.Context(), s.Run); err != nil {
		t.Error(err)
	}
}

// A copy with anything in it that no migration makes is refused: a trigger or a view
// would act within the journal. So is one that lacks something.
func TestRestoreOfAnotherSchema(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	steps, err := migrations()
	must(t, err)
	for name, change := range map[string]string{
		"trigger":      "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM effects; END",
		"view":         "ALTER TABLE logs RENAME TO real_logs; CREATE VIEW logs AS SELECT * FROM real_logs",
		"more columns": "ALTER TABLE runs ADD COLUMN more TEXT",
		"a table more": "CREATE TABLE more (x)",
		"an index":     "CREATE INDEX more ON runs (status)",
		"a table less": "DROP TABLE hooks",
		"not unique":   "DROP INDEX runs_playbook",
	} {
		for have := 1; have <= len(steps); have++ {
			dir, into := t.TempDir(), t.TempDir()
			j, err := open(t.Context(), dir, Options{}, steps[:have])
			must(t, errors.Join(err, j.Close()))
			path := filepath.Join(dir, fileName)
			db, err := openDB(path, "rw", 1)
			must(t, err)
			_, err = db.ExecContext(t.Context(), change)
			must(t, errors.Join(err, db.Close()))
			err = Restore(t.Context(), into, path)
			if e := problem.From(err); err == nil || e.Kind != problem.Usage || e.Hint == "" || !strings.Contains(e.Message, "not a copy of a journal") {
				t.Errorf("%s, version %d: %v", name, have, err)
			}
			if _, err := os.Stat(filepath.Join(into, fileName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, version %d: it is there", name, have)
			}
		}
	}
}
