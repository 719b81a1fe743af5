package plain_test

import (
	"errors"
	"fmt"
	"os"

	"moonseal/runtime/plain"
)

func Example() {
	foreign := errors.New("refused\x1b[2J\nmoonseal: done")
	w := plain.NewWriter(os.Stdout) // passes line breaks and tabs, and no other control
	_, _ = plain.Fprintf(w, "%s failed: %s\n", "dfw", foreign)
	fmt.Println(plain.Line(foreign.Error()))
	// Output:
	// dfw failed: refused\x1b[2J\nmoonseal: done
	// refused\x1b[2J\nmoonseal: done
}
