package ssh

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

// login authenticates with one attempt in all, by password or, if the server does not
// offer that, keyboard-interactive. What went wrong is kept in err: the library wraps or
// replaces what its callbacks return.
type login struct {
	ctx      context.Context //nolint:containedctx // it lives as long as one login
	password func(context.Context) (string, error)
	sent     bool
	err      error

	received func() int64 // bytes from the server so far
	before   int64        // of them, those from before the password was sent
}

// next picks the method for the server's list, once.
func (l *login) next(c *xssh.ClientAuthContext) (xssh.AuthMethod, error) {
	switch {
	case l.err != nil:
	case l.sent && l.received() == l.before, !l.sent && len(c.AllowedMethods) == 0:
		// The library takes a connection that ends for a server that refuses.
		return nil, errNoAnswer
	case l.sent || len(c.PartialSuccessMethods) > 0:
		l.err = refusedLogin(c)
	case slices.Contains(c.AllowedMethods, "password"):
		return xssh.PasswordCallback(l.secret), nil
	case slices.Contains(c.AllowedMethods, "keyboard-interactive"):
		return xssh.KeyboardInteractive(l.answer), nil
	default:
		l.err = &problem.Error{Kind: problem.Auth, Message: "the server takes neither password nor keyboard-interactive, only " +
			strings.Join(c.AllowedMethods, ", ")}
	}
	return nil, l.err
}

func refusedLogin(c *xssh.ClientAuthContext) error {
	if len(c.PartialSuccessMethods) > 0 {
		return &problem.Error{Kind: problem.Auth, Message: "the server requires more than a password: " + strings.Join(c.AllowedMethods, ", ")}
	}
	return &problem.Error{
		Kind: problem.Auth, Message: "the server refused the user name or password",
		Hint: "it was tried once and is not tried again, because appliances lock accounts; correct it, then run again",
	}
}

// secret asks for the password.
func (l *login) secret() (string, error) {
	pw, err := l.password(l.ctx)
	if err != nil {
		l.err = err
		return "", err
	}
	l.sent, l.before = true, l.received()
	return pw, nil
}

// answer answers the one question that a password server asks. A second
// question is not the password's: it may be "new password".
func (l *login) answer(_, instruction string, questions []string, echos []bool) ([]string, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	if l.sent || len(questions) != 1 || echos[0] {
		l.err = &problem.Error{
			Kind: problem.Auth, Message: "the server asks for something other than the password",
			Server: strings.TrimSpace(instruction + " " + strings.Join(questions, " ")),
			Hint:   "log in by hand once: the password may have expired",
		}
		return nil, l.err
	}
	pw, err := l.secret()
	if err != nil {
		return nil, err
	}
	return []string{pw}, nil
}

// errNoAnswer: the connection ended before the server sent which methods there are, or
// answered the password.
var errNoAnswer = errors.New("it was cut before the login was answered")

// counting counts what it receives.
type counting struct {
	net.Conn
	received atomic.Int64
}

// Read implements net.Conn.
func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

// failed returns the error of a handshake that ended with err.
func (l *login) failed(err error) error {
	var none *xssh.AlgorithmNegotiationError
	switch {
	case l.err != nil:
		return l.err
	case errors.As(err, &none):
		return &problem.Error{
			Kind: problem.Refused, Message: "no algorithm in common: " + none.Error(), Cause: err,
			Hint: "an old release offers only weak algorithms: allow them for this host with legacy",
		}
	case l.sent && disconnected(err), unauthenticated(err):
		return &problem.Error{Kind: problem.Auth, Message: "the server refused the login", Server: err.Error(), Cause: err}
	default:
		return problem.Network(err)
	}
}

// x/crypto/ssh (v0.58.0) exports no error for either of these on the client's side: the
// first is its unexported *disconnectMsg, the second an fmt.Errorf. Only
// their texts distinguish them; TestErrorsOfTheLibrary fails if those change.

// disconnected reports whether the server ended the connection by a message
// (RFC 4253 section 11.1): it may do that in place of an answer to a failed login.
func disconnected(err error) bool { return strings.Contains(err.Error(), "disconnect, reason") }

// unauthenticated reports whether no method of authentication is left to try.
func unauthenticated(err error) bool { return strings.Contains(err.Error(), "unable to authenticate") }
