package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Files of the state folder that keep what is no run's, each one JSON value.
const (
	pauseFile  = "paused.json"    // playbooks that begin no runs
	cancelFile = "cancelled.json" // runs that a person has cancelled, and that have not ended yet
	// scheduleFile says since when each playbook has its schedule.
	scheduleFile = "schedules.json"
)

// readKept reads such a file into what into points to, and leaves that where
// there is none. what names it for people.
func readKept(state, file, what string, into any) error {
	path := filepath.Join(state, file)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return &problem.Error{
			Kind: problem.Usage, Target: path, Message: "cannot read " + what + ": " + problem.Reason(err), Cause: err,
			Hint: "mend the file, or remove it to forget " + what,
		}
	}
	return nil
}

func writeKept(state, file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(state, file), data)
}
