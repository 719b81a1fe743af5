package problem

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
)

// Reason returns the system's words about a file, a program or a socket, without the call
// and the name that Go puts before them: they are the error's target already.
func Reason(err error) string {
	for {
		switch e := err.(type) { //nolint:errorlint // what is wrapped otherwise has words of its own
		case *fs.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		case *net.OpError:
			err = e.Err
		case *exec.Error:
			err = e.Err
		default:
			return err.Error()
		}
	}
}
