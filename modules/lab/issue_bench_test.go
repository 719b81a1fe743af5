package lab_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/runtime/account"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
)

func clientTLS(ca *acmetest.CA) *tls.Config {
	return &tls.Config{RootCAs: ca.CertPool(), MinVersion: tls.VersionTLS12}
}

func holderOf(ca *acmetest.CA) account.Holder {
	return account.Holder{Directory: ca.DirectoryURL(), Email: email}
}

// issueScript gets a certificate. Its first steps warm up, as the steps of a
// renewal that come before its order do: connection, directory, nonce.
const issueScript = `local acme = require "acme"
local csr = %s
return playbook { name = "issue", run = function(ctx)
	local ca = acme.ca { directory = "lab", email = "` + email + `" }
	local acct = ctx:step("creating_account", function() return ca:account() end)
	ctx:step("warming_up", function() return acct:order { csr = csr } end)
	local order = ctx:step("requesting_certificate", function() return acct:order { csr = csr } end)
	ctx:step("completing_validation", function() return acct:validate(order) end)
	ctx:step("downloading_certificate", function() return acct:finalize(order, csr) end)
end }`

// tap sits between a run and its journal: it measures from the start of the order's step
// until the certificate's is synced, and keeps what was committed.
type tap struct {
	*journal.Journal
	began   time.Time
	took    time.Duration
	commits [][]journal.Record
	next    []journal.Record // with the next commit
}

func (t *tap) WriteLazy(ctx context.Context, recs ...journal.Record) error {
	if s, ok := recs[0].(journal.StepStarted); ok && s.Name == "requesting_certificate" {
		t.began, t.commits, t.next = time.Now(), nil, nil
	}
	t.next = append(t.next, recs...)
	return t.Journal.WriteLazy(ctx, recs...)
}

func (t *tap) Write(ctx context.Context, recs ...journal.Record) error {
	err := t.Journal.Write(ctx, recs...)
	if t.took == 0 {
		t.commits, t.next = append(t.commits, append(t.next, recs...)), nil
		if done, ok := recs[0].(journal.StepDone); ok && done.Step == lastStep {
			t.took = time.Since(t.began)
		}
	}
	return err
}

// lastStep is the number of issueScript's last step.
const lastStep = 4

// sizes returns texts that are as long as what the run committed.
func (t *tap) sizes(b *testing.B) []string {
	b.Helper()
	out := make([]string, 0, len(t.commits))
	for _, recs := range t.commits {
		n := 0
		for _, r := range recs {
			raw, err := journal.Encode(r)
			if err != nil {
				b.Fatal(err)
			}
			n += len(raw)
		}
		out = append(out, strings.Repeat("x", n))
	}
	return out
}

// BenchmarkOrderToCertificate: from the order's step to the certificate's, synced,
// in a journaled run, against byHand with the same requests, commits and files to
// the same Pebble, which counts every challenge as met. Goals: at most 1.3 times
// for one name whose authorization is fresh, 1.2 for a reused one. child is the
// same with the run in a process of its own, as `moonseal run` has it.
func BenchmarkOrderToCertificate(b *testing.B) {
	for _, c := range []struct {
		name  string
		reuse int // percent
		child bool
	}{{name: "fresh"}, {name: "reused", reuse: 100}, {name: "child/fresh", child: true}, {name: "child/reused", reuse: 100, child: true}} {
		b.Run(c.name, func(b *testing.B) { orderToCertificate(b, c.reuse, c.child) })
	}
}

func orderToCertificate(b *testing.B, reuse int, child bool) {
	ca, err := acmetest.Start(b.Context(), acmetest.Options{AlwaysValid: true, AuthzReuse: reuse})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ca.Close() }()
	const host = "cucm01-pub.automate.builders"
	csr, table := newCSR(b, host)
	e := newEngine(b, ca, map[string]string{"issue.lua": fmt.Sprintf(issueScript, table)})
	e.withAccount(b, ca)
	hand := newByHand(b, ca, e)
	var r journaltest.Ratio
	ours := func() *tap {
		t := &tap{Journal: e.journal}
		if err := e.run(b.Context(), "issue", t); err != nil {
			b.Fatal(err)
		}
		return t
	}
	sizes := ours().sizes(b)
	hand.issue(host, csr.Raw, sizes) // warms both
	timed := func() time.Duration { return ours().took }
	if child {
		timed = e.inChild(b, ca, "issue")
	}
	for b.Loop() {
		r.Ours(timed())
		r.Theirs(journaltest.Time(b, func() error { hand.issue(host, csr.Raw, sizes); return nil }))
	}
	b.ReportMetric(float64(hand.posts), "posts")
	r.Slower(b, "")
}
