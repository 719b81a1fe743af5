package peers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"moonseal/modules/acme/acmetest"
)

// peerVariable makes the test binary a peer's process, by the peer's name.
const peerVariable = "MOONSEAL_PEER"

func TestMain(m *testing.M) {
	acmetest.Main()
	if name := os.Getenv(peerVariable); name != "" {
		if err := servePeer(name, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	syscall.Umask(0o022) // moonseal refuses scripts and configs that others can write
	os.Exit(m.Run())
}

// task is what a peer's process has to do, the first value on its standard input.
type task struct {
	Directory string            // of the CA
	Roots     string            // PEM: of the CA's HTTPS and of Cloudflare's
	Hosts     map[string]string // name:port to the address to connect to
	Resolver  string            // host:port
	Token     string            // of Cloudflare's API
	Folder    string            // its own
	CSRs      [][]byte          // DER, one for each certificate
}

// peer obtains certificates with the given request's names.
type peer interface {
	obtain(ctx context.Context, csr []byte) error
}

// The lines that a peer's process and its parent exchange after the task.
const (
	ready = "ready"
	start = "start"
	done  = "done"
)

// servePeer is a peer's process. It reports that it is ready once it has an account and
// its first certificate, which is not measured, and that it is done once it has the rest.
// Its parent starts the clock in between, and ends the process by closing its input.
func servePeer(name string, in io.Reader, out io.Writer) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	var t task
	if err := lines.Decode(&t); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	ctx := context.Background()
	p, err := newPeer(name, t)
	if err != nil {
		return err
	}
	if err := p.obtain(ctx, t.CSRs[0]); err != nil {
		return fmt.Errorf("first certificate: %w", err)
	}
	reports := json.NewEncoder(out)
	if err := reports.Encode(ready); err != nil {
		return err
	}
	var signal string
	if err := lines.Decode(&signal); err != nil {
		return fmt.Errorf("waiting for the start: %w", err)
	}
	if err := inParallel(t.CSRs[1:], func(csr []byte) error { return p.obtain(ctx, csr) }); err != nil {
		return err
	}
	if err := reports.Encode(done); err != nil {
		return err
	}
	if err := lines.Decode(&signal); !errors.Is(err, io.EOF) {
		return fmt.Errorf("waiting for the end of the input: %w", err)
	}
	return nil
}

func newPeer(name string, t task) (peer, error) {
	switch name {
	case certmagicName:
		return newCertmagic(t)
	case legoName:
		return newLego(t)
	default:
		return nil, fmt.Errorf("unknown peer %q", name)
	}
}
