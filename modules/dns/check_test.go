package dns

import (
	"slices"
	"strings"
	"testing"

	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/problem"
)

// A look distinguishes wrong credentials and a zone that is not the provider's from right
// ones, with one request or two, and changes nothing.
func TestCheck(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		z.Name = ""
		names := []string{"www.example.com", "*.a.example.com", "cucm01", "10.0.0.5", "nowhere.invalid"}
		zones, err := s.client.Check(t.Context(), z, names)
		if err != nil || !slices.Equal(zones, []string{"example.com"}) {
			t.Errorf("got %v, %v", zones, err)
		}
		if all := s.Records(); slices.ContainsFunc(all, func(r dnstest.Record) bool { return r.Type == "TXT" }) {
			t.Errorf("it left %v", all)
		}
		if n := s.requests.n.Load(); n > 3 {
			t.Errorf("it took %d requests", n)
		}
		z.Name = "example.com"
		if zones, err = s.fresh().Check(t.Context(), z, nil); err != nil || len(zones) != 1 {
			t.Errorf("the zone's own name: %v, %v", zones, err)
		}
		if zones, err = s.fresh().Check(t.Context(), z, []string{"www.acme.example.net", "www.example.com"}); err != nil || len(zones) != 1 {
			t.Errorf("one name of another zone: %v, %v", zones, err)
		}
		if _, err = s.fresh().Check(t.Context(), z, []string{"www.acme.example.net"}); problem.From(err).Kind != problem.Mismatch {
			t.Errorf("all names of another zone: %v", err)
		}
		for _, secret := range []string{"CF", "DO", "AWS_KEY", "TSIG"} {
			s.secrets[secret] = strings.Repeat("A", len(s.secrets[secret]))
		}
		_, err = s.fresh().Check(t.Context(), z, names)
		if e := problem.From(err); err == nil || e.Kind != problem.Auth || e.Happened() != problem.NotDone {
			t.Errorf("wrong credentials: %v", err)
		}
	})
}
