package matrix

import (
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// foreignValue is the value of a TXT record that moonseal did not write; it stays.
const foreignValue = "another-client"

func nothing(*testing.T, *renewal) {}

func accountRefusals() []refusal {
	logins := func(n int) func(*testing.T, *renewal, *lab.Ledger) {
		return func(t *testing.T, _ *renewal, l *lab.Ledger) {
			t.Helper()
			if refused := slices.DeleteFunc(l.Logins, func(l cucmtest.Login) bool { return l.OK }); len(refused) != n {
				t.Errorf("logins: %+v", refused)
			}
		}
	}
	anotherBefore := func(t *testing.T, r *renewal, call string) {
		t.Helper()
		right, _ := r.secrets.Value(t.Context(), "CUCM_PASSWORD")
		r.secrets.set("RIGHT", right)
		r.before(t, call, func() { r.secrets.set("CUCM_PASSWORD", "changed-meanwhile") })
	}
	another := func(t *testing.T, r *renewal) {
		t.Helper()
		anotherBefore(t, r, cucmtest.CallSSHLogin)
	}
	right := func(t *testing.T, r *renewal) {
		t.Helper()
		right, _ := r.secrets.Value(t.Context(), "RIGHT")
		r.secrets.set("CUCM_PASSWORD", right)
	}
	return []refusal{
		{
			name: "wrong password", script: dropIn{password: "WRONG"}, step: "checking_certificate", kind: problem.Auth,
			says: []string{"cucm.Node:identity: " + pub, "the appliance refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: logins(1),
		},
		{
			name: "wrong password over SSH", step: "checking_certificate", kind: problem.Auth, arrange: another,
			says: []string{"cucm.Node:login: " + pub + ":22", "the server refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: func(t *testing.T, r *renewal, l *lab.Ledger) {
				t.Helper()
				logins(1)(t, r, l)
				untouched(t, r, l)
			},
			fix: right,
		},
		{
			name: "wrong password over SSH in a cluster", script: dropIn{more: `members = { { host = "cucm02-sub" } },`}, step: "checking_certificate", kind: problem.Auth,
			world: func(o *lab.Options) {
				o.Nodes = append(o.Nodes, cucmtest.NodeOptions{Host: "cucm02-sub", Role: cucmtest.Subscriber})
			},
			arrange: func(t *testing.T, r *renewal) {
				const sub = "cucm02-sub." + lab.Domain
				pinNode(t, r.state, sub, r.world.Cluster.Node(sub))
				anotherBefore(t, r, cucmtest.CallPendingCSR) // the first of both logins has it already
			},
			says: []string{"cucm.Node:login: " + pub + ":22", "the server refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: logins(1),
		},
		{
			name: "password that changes before the restart", step: "restarting_services", kind: problem.Auth,
			arrange: func(t *testing.T, r *renewal) { r.after("uploading_certificate", func() { another(t, r) }) },
			says:    []string{"cucm.Node:restart: " + pub + ":22", "the server refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: logins(1), fix: right,
		},
		{
			name: "privilege 0", script: dropIn{username: "CUCM_READER_USERNAME", password: "CUCM_READER_PASSWORD"}, step: "generating_csr", kind: problem.Auth,
			says: []string{"cucm.Node:csr: " + pub, "the account may not do this"}, hint: []string{"privilege level 1"},
			check: func(t *testing.T, _ *renewal, l *lab.Ledger) {
				t.Helper()
				if len(l.CSRs)+len(l.Orders) > 0 {
					t.Errorf("%+v", l)
				}
			},
		},
	}
}

func csrRefusals() []refusal {
	return []refusal{
		{
			name: "foreign pending CSR", step: "generating_csr", kind: problem.Conflict,
			arrange: func(t *testing.T, r *renewal) { r.otherCSR(t) },
			says:    []string{"cucm.Node:csr: " + pub, "another signing request of tomcat is pending", "would overwrite its key"}, hint: []string{"replace_pending"},
			fix: func(_ *testing.T, r *renewal) { r.node().DropCSR("tomcat") },
		},
		{
			name: "node that asks for another host's name", step: "generating_csr", kind: problem.Mismatch,
			arrange: func(t *testing.T, r *renewal) {
				t.Helper()
				r.behave(t, func(b *cucmtest.Behavior) { b.ExtraNames = []string{"www.automate.builders"} })
			},
			says: []string{"cucm.Node:csr: " + pub, `"www.automate.builders"`, "the playbook expects " + pub}, hint: []string{"members", "names", "find out what has changed the node"},
			check: func(t *testing.T, _ *renewal, l *lab.Ledger) {
				t.Helper()
				if len(l.Orders)+len(l.Certificates) > 0 {
					t.Errorf("%+v", l)
				}
			},
			fix: healed,
		},
		{
			name: "common name that no node has", script: dropIn{csr: `distribution = "multi-server", common_name = "cucm01-pub-ms.automate.builders",`},
			step: "requesting_certificate", kind: problem.Mismatch,
			says: []string{"acme.Account:order: " + pub, `common name "cucm01-pub-ms.automate.builders" is not among its alternative names`}, hint: []string{"set common_name to a node's full name"},
		},
	}
}

func uploadRefusals() []refusal {
	status := func(code int, text string) func(*testing.T, *renewal) {
		return func(t *testing.T, r *renewal) {
			r.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Status, Code: code, Body: `{"key":400,"messages":["` + text + `"],"trackingId":"UC_1f2e"}`})
		}
	}
	return []refusal{
		{
			name: "missing root", step: "uploading_certificate", kind: problem.Refused,
			arrange: func(t *testing.T, r *renewal) {
				r.before(t, cucmtest.CallUploadIdentity, func() { _, _ = r.node().RemoveTrust("tomcat", "") })
			},
			says: []string{"cucm.Node:upload: " + pub, `"CA certificate is not available in the trust-store"`, "tracking id UC_"}, hint: []string{"root", "trust store"},
			fix: nothing,
		},
		{
			name: "SAN mismatch", step: "uploading_certificate", kind: problem.Mismatch, arrange: status(400, "CSR SAN and Certificate SAN does not match"),
			says: []string{"cucm.Node:upload: " + pub, "CSR SAN and Certificate SAN does not match", "tracking id UC_1f2e"}, hint: []string{"exactly the names in the signing request"},
		},
		{
			name: "stale CSR", step: "uploading_certificate", kind: problem.Mismatch,
			arrange: func(t *testing.T, r *renewal) { r.after("downloading_certificate", func() { r.otherCSR(t) }) },
			says:    []string{"cucm.Node:upload: " + pub, "key"}, hint: []string{"another CSR was generated since"},
			fix: func(_ *testing.T, r *renewal) { r.node().DropCSR("tomcat") }, again: true,
		},
		{
			name: "CSR that goes stale at the last moment", step: "uploading_certificate", kind: problem.Mismatch,
			arrange: func(t *testing.T, r *renewal) {
				r.before(t, cucmtest.CallUploadIdentity, func() { r.otherCSR(t) })
			},
			says: []string{"cucm.Node:upload: " + pub, "key"}, hint: []string{"another CSR was generated since"},
		},
		{
			name: "CSR that is gone", step: "uploading_certificate", kind: problem.Mismatch,
			arrange: func(_ *testing.T, r *renewal) {
				r.after("downloading_certificate", func() { r.node().DropCSR("tomcat") })
			},
			says: []string{"cucm.Node:upload: " + pub, "no signing request is pending"}, hint: []string{"a new run generates a fresh CSR"},
			fix: nothing, again: true,
		},
		{
			name: "EKU refused", step: "uploading_certificate", kind: problem.Refused,
			arrange: func(t *testing.T, r *renewal) {
				r.behave(t, func(b *cucmtest.Behavior) { b.EKU = cucmtest.EKUReject })
			},
			says: []string{"cucm.Node:upload: " + pub, "extended key usage clientAuth"}, hint: []string{"FN74345"},
			check: warnedOfClientAuth, fix: healed,
		},
		{
			name: "expired certificate", step: "uploading_certificate", kind: problem.Mismatch,
			world: func(o *lab.Options) { o.Validity = time.Hour },
			arrange: func(_ *testing.T, r *renewal) {
				r.after("downloading_certificate", func() { r.clock.jump(2 * time.Hour) })
			},
			says: []string{"cucm.Node:upload: " + pub, "the certificate expired on "}, hint: []string{"a new run orders a new one"},
		},
		{
			name: "expired by the node's clock", step: "uploading_certificate", kind: problem.Refused, arrange: status(400, "Certificate has expired"),
			says: []string{"cucm.Node:upload: " + pub, "Certificate has expired"}, hint: []string{"the node's clock"}, fix: nothing,
		},
	}
}

// warnedOfClientAuth checks that it was logged before the upload.
func warnedOfClientAuth(t *testing.T, r *renewal, _ *lab.Ledger) {
	t.Helper()
	for _, rec := range r.seen() {
		if line, ok := rec.(journal.Logged); ok && line.Level == "warn" && strings.Contains(line.Message, "asks for clientAuth and the certificate lacks it") {
			return
		}
	}
	t.Error("no warning")
}

// parksUntilRestartedByHand runs again while the old certificate is still served:
// Tomcat is not restarted a second time, and the run ends well after a restart by hand.
func (r *renewal) parksUntilRestartedByHand(t *testing.T) {
	t.Helper()
	out, id := r.begin(t)
	for range 2 {
		if out.Status != journal.Parked || out.Error == nil {
			t.Fatalf("%s: %s: %v", out.Status, out.Reason, out.Error)
		}
		contains(t, "the reason", out.Reason, []string{
			"step restarting_services: cucm.Node:restart: " + pub, "port 443 serves sha256 " + r.node().ServedSHA256(), "began to restart Cisco Tomcat, ",
		})
		contains(t, "the hint", out.Error.Hint, []string{"restart its services by hand", "moonseal resume " + id + " --as look"})
		out = r.proceed(t, out, id)
	}
	healed(t, r)
	if err := r.node().Restart("Cisco Tomcat"); err != nil {
		t.Fatal(err)
	}
	if out = r.proceed(t, out, id); out.Status != journal.Done {
		t.Errorf("restarted by hand: %s: %s: %v", out.Status, out.Reason, out.Error)
	}
	tomcats := 0
	for _, s := range r.world.Cluster.Ledger().Restarts {
		if s.Node == pub && s.Service == "Cisco Tomcat" {
			tomcats++
		}
	}
	if tomcats != 1 {
		t.Errorf("Tomcat was restarted %d times", tomcats)
	}
}

func hostKey(t *testing.T, r *renewal) {
	t.Helper()
	if err := r.node().ChangeHostKey(); err != nil {
		t.Error(err)
	}
}

func restartRefusals() []refusal {
	return []refusal{
		{
			name: "old certificate comes back", step: "verifying_certificate", kind: problem.Timeout,
			arrange: func(t *testing.T, r *renewal) {
				r.behave(t, func(b *cucmtest.Behavior) { b.AfterRestart = cucmtest.OldCertificate })
			},
			says: []string{"verifying_certificate", "condition not met within 15m", pub + " still serves another certificate: sha256 "}, hint: []string{"within"},
			fix: func(t *testing.T, r *renewal) { r.parksUntilRestartedByHand(t) }, again: true,
		},
		{
			name: "another certificate is installed meanwhile", step: "restarting_services", kind: problem.Conflict,
			arrange: func(t *testing.T, r *renewal) {
				r.fault(t, faults.Fault{Call: cucmtest.CallIdentity, Kind: faults.Status, Code: 200, Skip: 2, Times: -1, Body: `{"certificate":` + quoted(r.world.CA.RootPEM()) + `}`})
			},
			says: []string{"cucm.Node:restart: " + pub, "another certificate is installed than expected"}, hint: []string{"it was changed meanwhile"},
		},
		{
			name: "changed host key", step: "checking_certificate", kind: problem.Untrusted, arrange: hostKey,
			says: []string{"cucm.Node:login: " + pub, "SHA256:"}, hint: []string{"moonseal trust " + pub},
			check: untouched, fix: func(t *testing.T, r *renewal) { r.pinHostKey(t) },
		},
		{
			name: "host key that changes meanwhile", step: "restarting_services", kind: problem.Untrusted,
			arrange: func(t *testing.T, r *renewal) { r.after("uploading_certificate", func() { hostKey(t, r) }) },
			says:    []string{"cucm.Node:restart: " + pub, "SHA256:"}, hint: []string{"moonseal trust " + pub},
			fix: func(t *testing.T, r *renewal) { r.pinHostKey(t) },
		},
	}
}
