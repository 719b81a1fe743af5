package cli

import (
	"os"
	"testing"

	"moonseal/runtime/worker"
)

// A build that has no version of its own is told from others by its contents.
func TestThisBuild(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mine := buildID(worker.Self)
	if mine == "" || mine != buildID(exe) || thisBuild() != version()+" "+mine {
		t.Errorf("this is build %q, its id is %q", thisBuild(), mine)
	}
	if id := buildID("/etc/hosts"); id != "" {
		t.Errorf("a text has the build id %q", id)
	}
}
