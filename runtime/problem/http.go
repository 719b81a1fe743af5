package problem

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Network returns the error of a request that got no complete answer. Only an error from
// before the request was sent is NotDone.
func Network(err error) *Error {
	if mine, ok := errors.AsType[*Error](err); ok {
		return mine
	}
	e := &Error{Kind: Unavailable, Message: "no answer", Work: Unknown, Cause: err, Server: ""}
	var op *net.OpError
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		e.Kind, e.Work = Untrusted, NotDone
		e.Message = "its TLS certificate is not trusted: " + untrusted.Err.Error()
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](untrusted.Err); unknown {
			e.Hint = "the root of a private CA, or of a proxy that inspects TLS, must be named in the config: ca_bundle"
		}
	case errors.As(err, &dns):
		e.Message, e.Work = "cannot resolve "+dns.Name, NotDone
		e.Hint = "check the host's name and this machine's resolver"
	case errors.As(err, &op) && strings.HasPrefix(op.Op, "socks"):
		e.Message, e.Work = fmt.Sprintf("cannot connect through the SOCKS proxy %v: %s", op.Source, cause(op.Err)), NotDone
		if strings.Contains(op.Err.Error(), "authentication failed") { // net/http has no other sign of it
			e.Kind, e.Hint = Auth, "the proxy does not accept the name and the password of proxy in the config"
		}
	case errors.As(err, &op) && op.Op == "dial":
		e.Message, e.Work = "cannot connect: "+op.Err.Error(), NotDone
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Kind, e.Message = Timeout, "no answer in time"
	case errors.Is(err, context.Canceled):
		e.Message = "stopped before the answer came"
	case errors.Is(err, syscall.ECONNRESET):
		e.Message = "connection reset"
	default:
		e.Message = "connection lost: " + cause(err)
	}
	return e
}

// cause drops the URL that net/http puts before its errors: it may hold a
// token, and the target is named already. It puts into words what an end of the
// stream means.
func cause(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "closed before the complete answer arrived"
	}
	for {
		var next interface{ Unwrap() error }
		if !errors.As(err, &next) {
			break
		}
		inner := next.Unwrap()
		if inner == nil {
			break
		}
		err = inner
	}
	if text := err.Error(); !strings.HasPrefix(text, "stream error: ") { // HTTP/2's word for one request of several
		return text
	}
	return "the other side aborted the answer"
}

// Status returns the error of an HTTP answer with a status of 400 or more; server
// is the body's own words. now resolves a relative Retry-After.
func Status(status int, header http.Header, server string, now time.Time) *Error {
	e := &Error{Kind: Refused, Message: "answered " + strconv.Itoa(status) + " " + http.StatusText(status), Status: status, Server: server, Work: NotDone}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		e.Kind = Auth
	case status == http.StatusNotFound:
		e.Kind = NotFound
	case status == http.StatusRequestTimeout:
		e.Kind, e.Work = Timeout, Unknown
	case status == http.StatusConflict:
		e.Kind = Conflict
	case status == http.StatusTooManyRequests:
		e.Kind = RateLimited
	case status >= 500:
		e.Kind, e.Work = Unavailable, Unknown
	}
	e.RetryAfter = RetryAfter(header, now)
	return e
}

// LongestRetry bounds what a server may ask for: with "in ten years" a run would not retry
// until its certificate has expired.
const LongestRetry = 24 * time.Hour

// RetryAfter reads a Retry-After header (RFC 9110 section 10.2.3), at most
// [LongestRetry] from now; zero if there is none, or it is in the past or malformed.
func RetryAfter(header http.Header, now time.Time) time.Time {
	v := header.Get("Retry-After")
	latest := now.Add(LongestRetry)
	if v != "" && strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64(LongestRetry/time.Second) {
			return latest
		}
		return now.Add(time.Duration(n) * time.Second)
	}
	at, err := http.ParseTime(v)
	switch {
	case err != nil || at.Before(now):
		return time.Time{}
	case at.After(latest):
		return latest
	}
	return at
}
