package matrix

import (
	"os"
	"testing"

	"moonseal/modules/acme/acmetest"
)

func TestMain(m *testing.M) {
	acmetest.Main()
	os.Exit(m.Run())
}
