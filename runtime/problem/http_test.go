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
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "0": 0, "86400": LongestRetry,
		"86401": LongestRetry, "315360000": LongestRetry, "99999999999": LongestRetry, "999999999999999999999999": LongestRetry,
		"Sun, 01 Mar 2026 12:30:00 GMT": 30 * time.Minute, "Mon, 02 Mar 2026 12:30:00 GMT": LongestRetry, "Fri, 31 Dec 9999 23:59:59 GMT": LongestRetry,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {header}}, now); !got.Equal(now.Add(want)) {
			t.Errorf("%q: %s, want %s", header, got, now.Add(want))
		}
	}
	for _, header := range []string{"", "-1", "+5", " 5x", "1e3", "0x10", "soon", "Fri, 31 Dec 1999 23:59:59 GMT", "Sun, 01 Mar 2026 11:59:59 GMT"} {
		if got := RetryAfter(http.Header{"Retry-After": {header}}, now); !got.IsZero() {
			t.Errorf("%q: %s", header, got)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("-9223372036854775808")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, header string) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		if at := RetryAfter(http.Header{"Retry-After": {header}}, now); !at.IsZero() && (at.Before(now) || at.After(now.Add(LongestRetry))) {
			t.Errorf("%q: %s", header, at)
		}
	})
}

// What a transport's error means, and that its URL, which may hold a token, is
// not repeated.
func TestNetwork(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	read := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		err     error
		kind    Kind
		work    Work
		message string
	}{
		{context.Canceled, Unavailable, Unknown, "stopped before the answer came"},
		{fmt.Errorf("reading: %w", context.Canceled), Unavailable, Unknown, "stopped before the answer came"},
		{dial(context.Canceled), Unavailable, NotDone, "cannot connect: context canceled"},
		{context.DeadlineExceeded, Timeout, Unknown, "no answer in time"},
		{errors.Join(context.Canceled, context.DeadlineExceeded), Timeout, Unknown, "no answer in time"},
		{read(os.ErrDeadlineExceeded), Timeout, Unknown, "no answer in time"},
		{dial(syscall.ECONNREFUSED), Unavailable, NotDone, "cannot connect: connection refused"},
		{dial(&net.DNSError{Name: "a.example", Err: "no such host"}), Unavailable, NotDone, "cannot resolve a.example"},
		{read(os.NewSyscallError("read", syscall.ECONNRESET)), Unavailable, Unknown, "connection reset"},
		{io.ErrUnexpectedEOF, Unavailable, Unknown, "connection lost: closed before the complete answer arrived"},
		{errors.New("stream error: stream ID 5; INTERNAL_ERROR; received from peer"), Unavailable, Unknown, "connection lost: the other side aborted the answer"},
		{errors.New("tls: handshake message too long"), Unavailable, Unknown, "connection lost: tls: handshake message too long"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, Untrusted, NotDone, "its TLS certificate is not trusted: x509: certificate signed by unknown authority"},
		{&Error{Kind: Auth, Message: "no"}, Auth, NotDone, "no"},
	} {
		for _, err := range []error{tt.err, &url.Error{Op: "Get", URL: "https://a.example/?token=x", Err: tt.err}} {
			if e := Network(err); e.Kind != tt.kind || e.Happened() != tt.work || e.Message != tt.message {
				t.Errorf("%v: %s, %s, %q; want %s, %s, %q", err, e.Kind, e.Happened(), e.Message, tt.kind, tt.work, tt.message)
			}
		}
	}
}
