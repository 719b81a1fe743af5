package cucm

import (
	stdx509 "crypto/x509"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

// A CA whose clock is a little ahead issues what begins a little later: that
// passes by waiting.
func TestACertificateThatBeginsSoonIsWaitedFor(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	dates := func(from time.Duration) *problem.Error {
		err := checkDates(&stdx509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(24 * time.Hour)}, "the certificate", now)
		if err == nil {
			return nil
		}
		return problem.From(err)
	}
	if e := dates(0); e != nil {
		t.Errorf("one that is valid: %v", e)
	}
	e := dates(2 * time.Second)
	if e == nil || e.Kind != problem.Unavailable || e.Happened() != problem.NotDone || !e.RetryAfter.Equal(now.Add(2*time.Second)) || e.Hint == "" {
		t.Errorf("one that begins in 2 s: %+v", e)
	}
	if e := dates(time.Hour); e == nil || e.Kind != problem.Mismatch {
		t.Errorf("one that begins in an hour: %+v", e)
	}
}
