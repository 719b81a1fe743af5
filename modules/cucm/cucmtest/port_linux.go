package cucmtest

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// reservePort binds a free loopback port without listening on it. Others that name the
// port and set SO_REUSEADDR, as net.Listen does, may listen on it; while none does,
// connections are refused, and the kernel assigns the port to nothing else. release ends
// the reservation.
func reservePort() (addr string, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("reserve a port: %w", os.NewSyscallError("socket", err))
	}
	fail := func(call string, err error) (string, func(), error) {
		_ = syscall.Close(fd)
		return "", nil, fmt.Errorf("reserve a port: %w", os.NewSyscallError(call, err))
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fail("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fail("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	port := name.(*syscall.SockaddrInet4).Port //nolint:forcetypeassert // it was bound so
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), func() { _ = syscall.Close(fd) }, nil
}
