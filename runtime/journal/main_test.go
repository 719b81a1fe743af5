package journal

import (
	"os"
	"testing"
)

// TestMain lets the test binary also be the process that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("MOONSEAL_TEST_WRITER"); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}
