package ssh

import (
	"cmp"
	"context"
	"errors"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

// Dial connects, verifies the host key, logs in with one attempt, and waits
// for the first prompt. ctx bounds the dialing only. Errors: Untrusted (host
// key; the fingerprint that was seen is in the message), Auth, Refused (no
// common algorithm), Unavailable, Timeout.
func Dial(ctx context.Context, c Config) (*Session, error) {
	c = c.withDefaults()
	client, err := connect(ctx, c)
	if err != nil {
		return nil, notDone(err, c)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Banner)
	defer cancel()
	s, err := open(ctx, client, c)
	if err != nil {
		return nil, notDone(err, c)
	}
	return s, nil
}

// connect returns a client that is logged in. A host that shows another key than
// the pinned ones is asked for its other kinds of key before it is refused.
func connect(ctx context.Context, c Config) (*xssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	v := &verifier{trust: cmp.Or(c.Trust, "moonseal trust "+c.host()), pins: c.HostKeys}
	l := &login{ctx: ctx, password: c.Password}
	cfg := &xssh.ClientConfig{User: c.User, HostKeyCallback: v.check, AuthCallback: l.next}
	algorithms(cfg, c.Legacy)

	var untrusted *problem.Error
	for _, family := range families(cfg.HostKeyAlgorithms) {
		cfg.HostKeyAlgorithms = family
		client, err := handshake(ctx, c, cfg, l)
		var none *xssh.AlgorithmNegotiationError
		switch {
		case err == nil:
			return client, nil
		case v.err != nil && untrusted == nil:
			untrusted = v.err
		case v.err == nil && (untrusted == nil || !errors.As(err, &none)):
			return nil, l.failed(err)
		}
		v.err = nil
		if len(c.HostKeys) == 0 {
			break
		}
	}
	return nil, untrusted
}

// handshake dials and runs SSH up to the end of authentication. ctx bounds
// all of it: the library's own timeout covers the dial only.
func handshake(ctx context.Context, c Config, cfg *xssh.ClientConfig, l *login) (*xssh.Client, error) {
	raw, err := c.Dial(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	conn := &counting{Conn: raw}
	l.received = conn.received.Load
	done := closeOnEnd(ctx, conn)
	cc, chans, reqs, err := xssh.NewClientConn(conn, c.Addr, cfg)
	done()
	if err == nil {
		return xssh.NewClient(cc, chans, reqs), nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, err
}

// closeOnEnd closes conn when ctx ends before the func that it returns is
// called, which waits for that.
func closeOnEnd(ctx context.Context, conn interface{ Close() error }) (done func()) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close()
	})
	return func() {
		if !stop() {
			<-closed
		}
	}
}

// notDone returns err as the error of a session in which no command was sent yet.
func notDone(err error, c Config) error {
	p := *problem.From(err)
	if errors.Is(err, context.DeadlineExceeded) {
		p.Kind = problem.Timeout
	}
	p.Work = problem.NotDone
	return problem.At(&p, "", c.Addr)
}

// A terminal wraps what it echoes at its width, and pages at its height.
const (
	terminal = "vt100"
	width    = 512
	height   = 1000
)
