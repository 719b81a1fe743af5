//go:build !linux

package cucmtest

import "net"

// reservePort finds a free loopback port. Elsewhere than on Linux it can't be
// held while nothing listens on it, so that another process might take it
// during a restart.
func reservePort() (addr string, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() {}, l.Close()
}
