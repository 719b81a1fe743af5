package control

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Files of the state directory in which older versions kept what is in the journal now,
// each one JSON value, and their queue.
const (
	pauseFile    = "paused.json"
	cancelFile   = "cancelled.json"
	scheduleFile = "schedules.json"
	queueFile    = "queue.db"
)

// TakeOver migrates what older versions kept in files beside the journal into it, and
// removes the files. If killed in between, it does the same again.
func TakeOver(ctx context.Context, j *journal.Journal) error {
	var in journal.Inherited
	found := false
	for _, f := range []struct {
		name, what string
		into       any
	}{
		{pauseFile, "what is paused", &in.Paused},
		{cancelFile, "what was cancelled", &in.Cancelled},
		{scheduleFile, "when schedules took effect", &in.Schedules},
	} {
		there, err := readOld(filepath.Join(j.Dir(), f.name), f.what, f.into)
		if err != nil {
			return err
		}
		found = found || there
	}
	if found {
		if err := j.Inherit(ctx, in); err != nil {
			return err
		}
	}
	return removeOld(j.Dir())
}

func readOld(path, what string, into any) (there bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return false, &problem.Error{
			Kind: problem.Usage, Target: path, Message: "cannot read " + what + ": " + problem.Reason(err), Cause: err,
			Hint: "correct the file, or remove it to forget " + what,
		}
	}
	return true, nil
}

// removeOld removes the files that a journal of this version makes obsolete.
func removeOld(dir string) error {
	for _, name := range []string{pauseFile, cancelFile, scheduleFile, queueFile, queueFile + "-wal", queueFile + "-shm", queueFile + ".damaged"} {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot remove a file of an older version: " + problem.Reason(err), Cause: err}
		}
	}
	return nil
}
