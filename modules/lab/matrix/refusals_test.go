package matrix

import (
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/lab"
	"moonseal/modules/lab/faults"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// refusal is something that no waiting mends: the run fails, and its error says
// what happened and what to do.
type refusal struct {
	name    string
	script  dropIn
	world   func(*lab.Options)
	arrange func(t *testing.T, r *renewal)

	step  string
	kind  problem.Kind
	says  []string // parts of the error's line
	hint  []string
	check func(t *testing.T, r *renewal, l *lab.Ledger) // what happened at the site until then
	// mend is what a person does about it; then the next run ends well, at no
	// cost of a further certificate unless again is set.
	mend  func(t *testing.T, r *renewal)
	again bool
}

// after calls do once a step is done, before the next begins.
func (r *renewal) after(step string, do func()) {
	names := map[int]string{}
	r.watch = func(rec journal.Record) {
		switch rec := rec.(type) {
		case journal.StepStarted:
			names[rec.Step] = rec.Name
		case journal.StepDone:
			if names[rec.Step] == step {
				do()
			}
		}
	}
}

// before calls do when a node or a server has got a call and not worked on it.
func (r *renewal) before(t *testing.T, call string, do func()) {
	t.Helper()
	set := r.world.Faults()
	id := r.fault(t, faults.Fault{Call: call, Kind: faults.HoldBefore})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if set.WaitHeld(t.Context(), id) == nil {
			do()
			_ = set.Release(id)
		}
	}()
	t.Cleanup(func() { <-done })
}

// count counts calls.
func (r *renewal) count(t *testing.T, call string) func() int {
	t.Helper()
	id := r.fault(t, faults.Fault{Call: call, Kind: faults.Delay, Times: -1})
	return func() int { return r.hits(id) }
}

func (r *renewal) behave(t *testing.T, change func(*cucmtest.Behavior)) {
	t.Helper()
	if err := r.node().Configure(change); err != nil {
		t.Fatal(err)
	}
}

// otherCSR is another administrator's signing request.
func (r *renewal) otherCSR(t *testing.T) {
	t.Helper()
	if _, err := r.node().GenerateCSR("tomcat"); err != nil {
		t.Error(err)
	}
}

func healed(t *testing.T, r *renewal) {
	t.Helper()
	r.behave(t, func(b *cucmtest.Behavior) { *b = cucmtest.Behavior{RestartOutage: b.RestartOutage} })
}

func TestRefusals(t *testing.T) {
	for _, c := range slices.Concat(accountRefusals(), csrRefusals(), uploadRefusals(), dnsRefusals(), caRefusals(), restartRefusals()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.play(t)
		})
	}
}

func (c refusal) play(t *testing.T) {
	t.Helper()
	var options []func(*lab.Options)
	if c.world != nil {
		options = append(options, c.world)
	}
	s := newSite(t, options...)
	s.secrets.set("WRONG", strings.ToLower(s.world.Env("CF_API_TOKEN")))
	r := s.renewal(t, c.script, patient())
	if c.arrange != nil {
		c.arrange(t, r)
	}
	out := r.toTheEnd(t)
	e := out.Error
	if out.Status != journal.Failed || e == nil {
		t.Fatalf("%s: %s: %v", out.Status, out.Reason, e)
	}
	t.Logf("%s: %s\nhint: %s", e.Step, e, e.Hint)
	if e.Kind != c.kind || e.Step != c.step || e.Call == "" || e.Target == "" || e.Message == "" {
		t.Errorf("got %+v", e)
	}
	contains(t, "the error", e.Error(), c.says)
	contains(t, "the hint", e.Hint, c.hint)
	l := s.look(t)
	r.spotless(t, l)
	if c.check != nil {
		c.check(t, r, l)
	}
	if c.mend != nil {
		c.repair(t, r, len(l.Certificates))
	}
}

func contains(t *testing.T, what, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not say %q: %s", what, part, text)
		}
	}
	if len(parts) == 0 && text != "" {
		t.Errorf("%s says something after all: %s", what, text)
	}
}

// spotless checks that a run that failed has left nothing behind, and has done
// nothing twice.
func (r *renewal) spotless(t *testing.T, l *lab.Ledger) {
	t.Helper()
	accepted := 0
	for _, u := range l.Uploads {
		if u.Kind == cucmtest.IdentityUpload && u.Accepted {
			accepted++
		}
	}
	if accepted > 1 || len(l.Certificates) > 1 || len(l.Orders) > 1 {
		t.Errorf("%d uploads, %d certificates, %d orders", accepted, len(l.Certificates), len(l.Orders))
	}
	if left := r.leftOver(r.state); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	undos, err := r.journal.Undos(t.Context(), journal.UndoPending)
	if err != nil || len(undos) > 0 {
		t.Errorf("undos: %+v, %v", undos, err)
	}
}

// repair runs again, after a person has mended what was wrong.
func (c refusal) repair(t *testing.T, r *renewal, had int) {
	t.Helper()
	r.world.Faults().Clear()
	r.watch = nil
	c.mend(t, r)
	r.job.Files = map[string]string{"renewal.lua": c.script.source()}
	out := r.toTheEnd(t)
	if out.Status != journal.Done {
		t.Fatalf("mended, and yet %s: %s: %v", out.Status, out.Reason, out.Error)
	}
	l := r.look(t)
	r.spotless(t, l)
	want := 1
	if !c.again {
		want -= had
	}
	if len(l.Certificates) != want {
		t.Errorf("the next run got %d certificates, want %d", len(l.Certificates), want)
	}
	if l.Served[pub] != l.Installed[pub] || l.Served[pub] == "" {
		t.Errorf("installed %s, served %s", l.Installed[pub], l.Served[pub])
	}
}

// someoneElse is the value of another's TXT record, which stays.
const someoneElse = "someone-else"

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
	return []refusal{
		{
			name: "wrong password", script: dropIn{password: "WRONG"}, step: "checking_certificate", kind: problem.Auth,
			says: []string{"cucm.Node:identity: " + pub, "the appliance refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: logins(1),
		},
		{
			name: "wrong password over SSH", step: "restarting_services", kind: problem.Auth,
			arrange: func(t *testing.T, r *renewal) {
				right, _ := r.secrets.Value(t.Context(), "CUCM_PASSWORD")
				r.secrets.set("RIGHT", right)
				r.before(t, cucmtest.CallSSHLogin, func() { r.secrets.set("CUCM_PASSWORD", "changed-meanwhile") })
			},
			says: []string{"cucm.Node:restart: " + pub + ":22", "the server refused the user name or password"}, hint: []string{"OS administrator (platform) account", "once only"},
			check: logins(1),
			mend: func(t *testing.T, r *renewal) {
				right, _ := r.secrets.Value(t.Context(), "RIGHT")
				r.secrets.set("CUCM_PASSWORD", right)
			},
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
			name: "someone else's pending CSR", step: "generating_csr", kind: problem.Conflict,
			arrange: func(t *testing.T, r *renewal) { r.otherCSR(t) },
			says:    []string{"cucm.Node:csr: " + pub, "another signing request of tomcat is pending", "would overwrite its key"}, hint: []string{"replace_pending"},
			mend: func(_ *testing.T, r *renewal) { r.node().DropCSR("tomcat") },
		},
		{
			name: "wildcard", script: dropIn{csr: `alt_names = { "*.automate.builders" },`}, step: "generating_csr", kind: problem.Usage,
			says: []string{"cucm.Node:csr: " + pub, "takes no wildcard"}, hint: []string{"alt_names"},
		},
		{
			name: "common name that no node has", script: dropIn{csr: `distribution = "multi-server", common_name = "cucm01-pub-ms.automate.builders",`},
			step: "requesting_certificate", kind: problem.Mismatch,
			says: []string{"acme.Account:order: " + pub, `common name "cucm01-pub-ms.automate.builders" is not among its alternative names`}, hint: []string{"set common_name to a node's full name"},
		},
	}
}

func uploadRefusals() []refusal {
	status := func(code int, said string) func(*testing.T, *renewal) {
		return func(t *testing.T, r *renewal) {
			r.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Status, Code: code, Body: `{"key":400,"messages":["` + said + `"],"trackingId":"UC_1f2e"}`})
		}
	}
	return []refusal{
		{
			name: "missing root", step: "uploading_certificate", kind: problem.Refused,
			arrange: func(t *testing.T, r *renewal) {
				r.before(t, cucmtest.CallUploadIdentity, func() { _, _ = r.node().RemoveTrust("tomcat", "") })
			},
			says: []string{"cucm.Node:upload: " + pub, `"CA certificate is not available in the trust-store"`, "tracking id UC_"}, hint: []string{"root", "trust store"},
			mend: nothing,
		},
		{
			name: "SAN mismatch", step: "uploading_certificate", kind: problem.Mismatch, arrange: status(400, "CSR SAN and Certificate SAN does not match"),
			says: []string{"cucm.Node:upload: " + pub, "CSR SAN and Certificate SAN does not match", "tracking id UC_1f2e"}, hint: []string{"exactly the names in the signing request"},
		},
		{
			name: "stale CSR", step: "uploading_certificate", kind: problem.Mismatch,
			arrange: func(t *testing.T, r *renewal) { r.after("downloading_certificate", func() { r.otherCSR(t) }) },
			says:    []string{"cucm.Node:upload: " + pub, "key"}, hint: []string{"another CSR was generated since"},
			mend: func(_ *testing.T, r *renewal) { r.node().DropCSR("tomcat") }, again: true,
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
			arrange: func(t *testing.T, r *renewal) {
				r.after("downloading_certificate", func() { r.node().DropCSR("tomcat") })
			},
			says: []string{"cucm.Node:upload: " + pub, "no signing request is pending"}, hint: []string{"a new run generates a fresh CSR"},
			mend: nothing, again: true,
		},
		{
			name: "EKU refused", step: "uploading_certificate", kind: problem.Refused,
			arrange: func(t *testing.T, r *renewal) {
				r.behave(t, func(b *cucmtest.Behavior) { b.EKU = cucmtest.EKUReject })
			},
			says: []string{"cucm.Node:upload: " + pub, "extended key usage clientAuth"}, hint: []string{"FN74345"},
			check: warnedOfClientAuth, mend: healed,
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
			says: []string{"cucm.Node:upload: " + pub, "Certificate has expired"}, hint: []string{"the node's clock"}, mend: nothing,
		},
	}
}

// warnedOfClientAuth checks that the log said it before the upload.
func warnedOfClientAuth(t *testing.T, r *renewal, _ *lab.Ledger) {
	t.Helper()
	for _, rec := range r.seen() {
		if line, ok := rec.(journal.Logged); ok && line.Level == "warn" && strings.Contains(line.Message, "asks for clientAuth and the certificate lacks it") {
			return
		}
	}
	t.Error("nobody warned")
}

func dnsRefusals() []refusal {
	var asked func() int
	return []refusal{
		{
			name: "unknown zone at the provider", step: "creating_dns_challenge", kind: problem.NotFound,
			arrange: func(t *testing.T, r *renewal) {
				r.fault(t, faults.Fault{Call: "dns.cloudflare.zones", Kind: faults.Status, Code: 200, Times: -1,
					Body: `{"success":true,"errors":[],"messages":[],"result":[],"result_info":{"page":1,"per_page":20,"count":0,"total_count":0}}`})
			},
			says: []string{"dns.Zone:present: automate.builders", "Cloudflare shows no zone automate.builders to this token"}, hint: []string{"Zone:Read"},
			mend: nothing,
		},
		{
			name: "wrong zone", script: dropIn{zone: `{ provider = "cloudflare", name = "example.org", api_token = secret "CF_API_TOKEN" }`},
			step: "creating_dns_challenge", kind: problem.Mismatch,
			says: []string{"dns.Zone:present: _acme-challenge." + pub, "the name is not in the zone example.org"}, hint: []string{"set the zone that the name is in"},
		},
		{
			name: "name without a zone", script: dropIn{csr: `alt_names = { "phones.nowhere.test" },`}, step: "creating_dns_challenge", kind: problem.NotFound,
			says: []string{"dns.Zone:present: _acme-challenge.phones.nowhere.test", "no zone holds this name"}, hint: []string{"check the name"},
		},
		{
			name: "refused DNS token", script: dropIn{zone: `{ provider = "cloudflare", api_token = secret "WRONG" }`}, step: "creating_dns_challenge", kind: problem.Auth,
			arrange: func(t *testing.T, r *renewal) { asked = r.count(t, "dns.cloudflare.*") },
			says:    []string{"dns.Zone:present: api.cloudflare.com", "answered 40"}, hint: []string{"check the zone's credentials"},
			check: func(t *testing.T, _ *renewal, _ *lab.Ledger) {
				t.Helper()
				if n := asked(); n != 1 {
					t.Errorf("asked %d times", n)
				}
			},
		},
		{
			name: "propagation that never comes", step: "waiting_dns_propagation", kind: problem.Timeout,
			arrange: func(_ *testing.T, r *renewal) { r.world.DNS.SetPropagationDelay(2, 48*time.Hour) },
			says:    []string{"waiting_dns_propagation", "not so within 10m", "ns2.automate.builders does not show _acme-challenge." + pub + " yet"}, hint: []string{"within"},
			mend: func(_ *testing.T, r *renewal) { r.world.DNS.SetPropagationDelay(2, 0) },
		},
	}
}

func caRefusals() []refusal {
	document := func(call string, status int, kind, detail string) func(*testing.T, *renewal) {
		return func(t *testing.T, r *renewal) {
			r.fault(t, faults.Fault{Call: call, Kind: faults.Status, Code: status, Body: `{"type":"urn:ietf:params:acme:error:` + kind + `","detail":"` + detail + `"}`})
		}
	}
	return []refusal{
		{
			name: "CA refuses the validation", step: "completing_validation", kind: problem.Refused,
			arrange: func(t *testing.T, r *renewal) {
				r.after("waiting_dns_propagation", func() {
					name := "_acme-challenge." + pub
					r.world.DNS.Remove(name, "TXT", "")
					if _, err := r.world.DNS.Add(dnstest.Record{Name: name, Type: "TXT", Value: someoneElse}); err != nil {
						t.Error(err)
					}
					t.Cleanup(func() {
						if r.world.DNS.Remove(name, "TXT", someoneElse) == 0 {
							t.Error("another's record was removed")
						}
					})
				})
			},
			says: []string{"acme.Account:validate: " + pub, `the CA could not validate ` + pub + `: "unauthorized: ` + pub}, hint: []string{"another TXT record"},
		},
		{
			name: "order that expired", step: "completing_validation", kind: problem.OrderGone,
			arrange: func(_ *testing.T, r *renewal) {
				r.after("waiting_dns_propagation", func() { r.clock.jump(30 * 24 * time.Hour) })
			},
			says: []string{"acme.Account:validate: https://acme-v02.api.letsencrypt.org/", "the order expired at "}, hint: []string{"a new run places a new one"},
			mend: func(_ *testing.T, r *renewal) { r.clock.jump(-30 * 24 * time.Hour) },
		},
		{
			name: "order that the CA forgot", step: "completing_validation", kind: problem.OrderGone, script: dropIn{csr: `alt_names = { "phones.automate.builders" },`},
			arrange: document("acme.order", 404, "malformed", "No such order"),
			says:    []string{"acme.Account:validate: ", "the CA does not know this order (any more)", "No such order"}, hint: []string{"a new run places a new one"},
			mend: nothing,
		},
		{
			name: "CA that wants a binding", step: "creating_account", kind: problem.Auth,
			arrange: document("acme.new-account", 403, "externalAccountRequired", "this CA takes accounts with an external account binding only"),
			says:    []string{"acme.CA:account: acme-v02.api.letsencrypt.org", "external account binding only"}, hint: []string{"eab = { kid = …, hmac = secret"},
			mend: nothing,
		},
		{
			name: "name that the CA does not issue for", step: "requesting_certificate", kind: problem.Refused,
			arrange: document("acme.new-order", 400, "rejectedIdentifier", "the name is on a list"),
			says:    []string{"acme.Account:order: acme-v02.api.letsencrypt.org", "rejectedIdentifier", "the name is on a list"}, hint: []string{"does not issue for this name"},
		},
		{
			name: "account that was deactivated", step: "requesting_certificate", kind: problem.Auth,
			arrange: document("acme.new-order", 403, "unauthorized", "account is deactivated"),
			says:    []string{"acme.Account:order: acme-v02.api.letsencrypt.org", "account is deactivated"}, hint: []string{"is the account deactivated"},
		},
	}
}

func restartRefusals() []refusal {
	return []refusal{
		{
			name: "old certificate comes back", step: "verifying_certificate", kind: problem.Timeout,
			arrange: func(t *testing.T, r *renewal) {
				r.behave(t, func(b *cucmtest.Behavior) { b.AfterRestart = cucmtest.OldCertificate })
			},
			says: []string{"verifying_certificate", "not so within 15m", pub + " still serves another certificate: sha256 "}, hint: []string{"within"},
			mend: healed,
		},
		{
			name: "another certificate is installed meanwhile", step: "restarting_services", kind: problem.Conflict,
			arrange: func(t *testing.T, r *renewal) {
				r.fault(t, faults.Fault{Call: cucmtest.CallIdentity, Kind: faults.Status, Code: 200, Skip: 2, Times: -1, Body: `{"certificate":` + quoted(r.world.CA.RootPEM()) + `}`})
			},
			says: []string{"cucm.Node:restart: " + pub, "another certificate is installed than expected"}, hint: []string{"someone changed it meanwhile"},
		},
		{
			name: "changed host key", step: "restarting_services", kind: problem.Untrusted,
			arrange: func(t *testing.T, r *renewal) {
				if err := r.node().ChangeHostKey(); err != nil {
					t.Fatal(err)
				}
			},
			says: []string{"cucm.Node:restart: " + pub, "SHA256:"}, hint: []string{"moonseal trust " + pub},
			mend: func(t *testing.T, r *renewal) { r.pinHostKey(t) },
		},
	}
}
