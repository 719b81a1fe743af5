package matrix

import (
	"testing"
	"time"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/problem"
)

// untouched checks that nothing was changed yet, nor ordered.
func untouched(t *testing.T, _ *renewal, l *lab.Ledger) {
	t.Helper()
	if len(l.CSRs)+len(l.Orders)+len(l.TXT.History) > 0 {
		t.Errorf("%d signing requests, %d orders, %d changes of TXT records", len(l.CSRs), len(l.Orders), len(l.TXT.History))
	}
}

func dnsRefusals() []refusal {
	var asked func() int
	return []refusal{
		{
			name: "unknown zone at the provider", step: "checking_certificate", kind: problem.NotFound,
			arrange: func(t *testing.T, r *renewal) {
				none := `{"success":true,"errors":[],"messages":[],"result":[],"result_info":{"page":1,"per_page":20,"count":0,"total_count":0}}`
				r.fault(t, faults.Fault{Call: "dns.cloudflare.zones", Kind: faults.Status, Code: 200, Times: -1, Body: none})
			},
			says: []string{"dns.Zone:check: automate.builders", "Cloudflare shows no zone automate.builders to this token"}, hint: []string{"Zone:Read"},
			check: untouched, fix: nothing,
		},
		{
			name: "wrong zone", script: dropIn{zone: `{ provider = "cloudflare", name = "example.org", api_token = secret "CF_API_TOKEN" }`},
			step: "checking_certificate", kind: problem.Mismatch,
			says: []string{"dns.Zone:check: _acme-challenge." + pub, "the name is not in the zone example.org"}, hint: []string{"set the zone that the name is in"},
			check: untouched,
		},
		{
			name: "name without a zone", script: dropIn{csr: `alt_names = { "phones.nowhere.test" },`}, step: "creating_dns_challenge", kind: problem.NotFound,
			says: []string{"dns.Zone:present: _acme-challenge.phones.nowhere.test", "no zone holds this name"}, hint: []string{"check the name"},
		},
		{
			name: "refused DNS token", script: dropIn{zone: `{ provider = "cloudflare", api_token = secret "WRONG" }`}, step: "checking_certificate", kind: problem.Auth,
			arrange: func(t *testing.T, r *renewal) { asked = r.count(t, "dns.cloudflare.*") },
			says:    []string{"dns.Zone:check: api.cloudflare.com", "answered 40"}, hint: []string{"check the zone's credentials"},
			check: func(t *testing.T, r *renewal, l *lab.Ledger) {
				t.Helper()
				untouched(t, r, l)
				if n := asked(); n != 1 {
					t.Errorf("asked %d times", n)
				}
			},
		},
		{
			name: "refused token at DigitalOcean", script: dropIn{zone: `{ provider = "digitalocean", api_token = secret "WRONG" }`}, step: "checking_certificate", kind: problem.Auth,
			says: []string{"dns.Zone:check: api.digitalocean.com", "answered 401"}, hint: []string{"check the zone's credentials"},
			check: untouched,
		},
		{
			name: "refused key at Route 53", script: dropIn{zone: `{ provider = "route53", access_key_id = secret "AWS_ACCESS_KEY_ID", secret_access_key = secret "WRONG" }`},
			step: "checking_certificate", kind: problem.Auth,
			says: []string{"dns.Zone:check: route53.amazonaws.com", "SignatureDoesNotMatch"}, hint: []string{"check the zone's credentials"},
			check: untouched,
		},
		{
			name: "refused key of dynamic updates", script: dropIn{zone: `{ provider = "rfc2136", server = "ns1.automate.builders", key_name = "other", key = secret "TSIG_KEY" }`},
			step: "checking_certificate", kind: problem.Auth,
			says: []string{"dns.Zone:check: ns1.automate.builders:53", "TSIG key"}, hint: []string{"check key_name, key_algorithm and key"},
			check: untouched,
		},
		{
			name: "DNS token that is revoked meanwhile", step: "creating_dns_challenge", kind: problem.Auth,
			arrange: func(t *testing.T, r *renewal) {
				r.after("requesting_certificate", func() {
					r.fault(t, faults.Fault{Call: "dns.cloudflare.*", Kind: faults.Status, Code: 403, Times: -1, Body: `{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}]}`})
				})
			},
			says: []string{"dns.Zone:present: api.cloudflare.com", "Invalid access token"}, hint: []string{"check the zone's credentials"},
			fix: nothing,
		},
		{
			name: "propagation that never comes", step: "waiting_dns_propagation", kind: problem.Timeout,
			arrange: func(_ *testing.T, r *renewal) { r.world.DNS.SetPropagationDelay(2, 48*time.Hour) },
			says:    []string{"waiting_dns_propagation", "condition not met within 10m", "ns2.automate.builders does not show _acme-challenge." + pub + " yet"}, hint: []string{"within"},
			fix: func(_ *testing.T, r *renewal) { r.world.DNS.SetPropagationDelay(2, 0) },
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
					if _, err := r.world.DNS.Add(dnstest.Record{Name: name, Type: "TXT", Value: foreignValue}); err != nil {
						t.Error(err)
					}
					t.Cleanup(func() {
						if r.world.DNS.Remove(name, "TXT", foreignValue) == 0 {
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
			fix: func(_ *testing.T, r *renewal) { r.clock.jump(-30 * 24 * time.Hour) },
		},
		{
			name: "order that the CA forgot", step: "completing_validation", kind: problem.OrderGone, script: dropIn{csr: `alt_names = { "phones.automate.builders" },`},
			arrange: func(t *testing.T, r *renewal) { // for good: a replica may only be behind
				r.fault(t, faults.Fault{Call: "acme.order", Kind: faults.Status, Code: 404, Times: -1, Body: `{"type":"urn:ietf:params:acme:error:malformed","detail":"No such order"}`})
			},
			says: []string{"acme.Account:validate: ", "the CA does not know this order (any more)", "No such order"}, hint: []string{"a new run places a new one"},
			fix: func(_ *testing.T, r *renewal) { r.world.Faults().Clear() },
		},
		{
			name: "CA that expects a binding", step: "creating_account", kind: problem.Auth,
			arrange: document("acme.new-account", 403, "externalAccountRequired", "this CA takes accounts with an external account binding only"),
			says:    []string{"acme.CA:account: acme-v02.api.letsencrypt.org", "external account binding only"}, hint: []string{"eab = { kid = …, hmac = secret"},
			fix: nothing,
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
