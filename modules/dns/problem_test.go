package dns

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

// Each has its own clear error, with the provider's words, and is asked once.
func TestRefusals(t *testing.T) {
	const wrongToken = "wrongwrongwrongwrongwrongwrongwrongwrong"
	tests := []struct {
		name, provider string
		change         func(s *scene, z *Zone)
		kind           problem.Kind
		want           []string
	}{
		{"wrong token", "cloudflare", func(s *scene, _ *Zone) { s.secrets["CF"] = wrongToken }, problem.Auth, []string{"403", "Invalid access token (9109)"}},
		{"mangled token", "cloudflare", func(s *scene, _ *Zone) { s.secrets["CF"] = "short" }, problem.Auth, []string{"400", "Invalid format for Authorization header (6111)"}},
		{"token with a space", "cloudflare", func(s *scene, _ *Zone) { s.secrets["CF"] = "to ken" }, problem.Auth, []string{"secret(CF) is not a valid token"}},
		{"unknown zone", "cloudflare", func(_ *scene, z *Zone) { z.Name = "example.org" }, problem.NotFound, []string{"example.org", "shows no zone", "expected 1 zone, got 0"}},
		{"wrong token", "digitalocean", func(s *scene, _ *Zone) { s.secrets["DO"] = wrongToken }, problem.Auth, []string{"401", "Unable to authenticate you"}},
		{"unknown zone", "digitalocean", func(_ *scene, z *Zone) { z.Name = "example.org" }, problem.NotFound, []string{"no domain example.org", "could not be found"}},
		{"wrong key", "route53", func(s *scene, _ *Zone) { s.secrets["AWS_KEY"] = wrongToken }, problem.Auth, []string{"403", "SignatureDoesNotMatch"}},
		{"wrong key id", "route53", func(s *scene, _ *Zone) { s.secrets["AWS_ID"] = "AKIAWRONGWRONGWRONG1" }, problem.Auth, []string{"InvalidClientTokenId"}},
		{"mangled key id", "route53", func(s *scene, _ *Zone) { s.secrets["AWS_ID"] = "short" }, problem.Auth, []string{"secret(AWS_ID) is not a valid AWS access key id"}},
		{"unknown zone", "route53", func(_ *scene, z *Zone) { z.Name = "example.org" }, problem.NotFound, []string{"no hosted zone example.org"}},
		{"unknown zone id", "route53", func(_ *scene, z *Zone) { z.HostedZoneID = "Z123" }, problem.NotFound, []string{"NoSuchHostedZone", "Z123"}},
		{"wrong key", "rfc2136", func(s *scene, _ *Zone) { s.secrets["TSIG"] = "d3Jvbmc=" }, problem.Auth, []string{"does not accept the TSIG key"}},
		{"wrong key name", "rfc2136", func(_ *scene, z *Zone) { z.KeyName = "other" }, problem.Auth, []string{"does not accept the TSIG key"}},
		{"no base64", "rfc2136", func(s *scene, _ *Zone) { s.secrets["TSIG"] = "not base64!" }, problem.Auth, []string{"secret(TSIG)"}},
		{"unknown zone", "rfc2136", func(_ *scene, z *Zone) { z.Name = "example.org" }, problem.Auth, []string{"NOTAUTH", "does not serve the zone example.org"}},
		{"no server", "rfc2136", func(_ *scene, z *Zone) { z.Server = "unknown.example.com" }, problem.Unavailable, []string{"cannot connect"}},
		{"no secret", "cloudflare", func(s *scene, _ *Zone) { delete(s.secrets, "CF") }, problem.NotFound, []string{"CF"}},
		{"no token", "digitalocean", func(_ *scene, z *Zone) { z.APIToken.Name = "" }, problem.Usage, []string{"api_token is missing"}},
		{"no provider", "cloudflare", func(_ *scene, z *Zone) { z.Provider = "gandi" }, problem.Usage, []string{`no provider "gandi"`, "rfc2136"}},
	}
	for _, tt := range tests {
		t.Run(tt.provider+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dnstest.Options{Zones: []string{"example.com"}})
			z := zoneAt(tt.provider)
			tt.change(s, &z)
			plan := &Plan{Missing: []Record{{Zone: z.Name, Name: "_acme-challenge." + z.Name, Type: "TXT", Value: digestA, TTL: time.Minute}}}
			_, err := s.client.Present(t.Context(), z, plan) // past the name's own checks
			e := problem.From(err)
			if err == nil || e.Kind != tt.kind || e.Happened() != problem.NotDone {
				t.Fatalf("%+v (%v)", e, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(e.Error(), w) {
					t.Errorf("%q does not say %q", e.Error(), w)
				}
			}
			if n := s.requests.n.Load(); n > 1 {
				t.Errorf("asked %d times", n)
			}
			for name, value := range s.secrets {
				if strings.Contains(e.Error()+e.Hint, value) {
					t.Errorf("the error holds the secret %s: %v", name, e)
				}
			}
		})
	}
}

// What a provider answers in bad times says so, with its status and words.
func TestBadTimes(t *testing.T) {
	const page = "<html><head><title>502 Bad Gateway</title></head><body>cloud <b>front</b></body></html>"
	for _, p := range []string{"cloudflare", "digitalocean", "route53"} {
		for _, o := range []string{"zones", "list", "create", "delete"} {
			if p == "digitalocean" && o == "zones" {
				continue // it needs no zone's id
			}
			for _, tt := range []struct {
				fault  faults.Fault
				kind   problem.Kind
				status int
				work   problem.Work
				want   string
			}{
				{faults.Fault{Kind: faults.Status, Code: 502, Body: page}, problem.Unavailable, 502, problem.Unknown, `answered 502 Bad Gateway: "502 Bad Gateway"`},
				{faults.Fault{Kind: faults.Status, Code: 503}, problem.Unavailable, 503, problem.Unknown, "503"},
				{faults.Fault{Kind: faults.Status, Code: 429, Body: `{"message":"slow down"}`, Header: map[string]string{"Retry-After": "30"}}, problem.RateLimited, 429, problem.NotDone, `429 Too Many Requests: "slow down"`},
				{faults.Fault{Kind: faults.Status, Code: 200, Body: `surprise`}, problem.Unavailable, 200, problem.Unknown, "is malformed"},
				{faults.Fault{Kind: faults.Reset}, problem.Unavailable, 0, problem.Unknown, "connection"},
				{faults.Fault{Kind: faults.Truncate}, problem.Unavailable, 0, problem.Unknown, "connection lost"},
			} {
				if tt.fault.Code == 200 && p == "digitalocean" && o == "delete" {
					continue // its answer has no body
				}
				if tt.fault.Kind == faults.Truncate && p == "digitalocean" && o == "delete" {
					continue
				}
				if tt.fault.Kind == faults.Reset && o == "list" {
					tt.fault.Times = -1 // net/http itself sends a GET again if a kept connection was cut
				}
				t.Run(p+"/"+o+"/"+tt.want, func(t *testing.T) {
					t.Parallel()
					s := newScene(t, dnstest.Options{})
					z, want := zoneAt(p), []Challenge{challenge("www.example.com", digestA)}
					if o == "delete" {
						s.mustPresent(z, want)
						s.client = s.fresh()
					}
					tt.fault.Call = "dns." + p + "." + o
					s.fault(tt.fault)
					var err error
					if o == "delete" {
						err = s.client.Remove(t.Context(), z, want, nil, nil)
					} else {
						_, err = s.present(z, want)
					}
					e := problem.From(err)
					if err == nil || e.Kind != tt.kind || e.Status != tt.status || e.Happened() != tt.work || !strings.Contains(e.Error(), tt.want) {
						t.Fatalf("%+v", e)
					}
					if tt.status == 429 && !e.RetryAfter.Equal(s.clock.Now().Add(30*time.Second)) {
						t.Errorf("retry after %v", e.RetryAfter)
					}
					if hits := s.faults.List()[0].Hits; hits != 1 && tt.fault.Times == 0 || e.Target == "" {
						t.Errorf("hit %d times, target %q", hits, e.Target)
					}
				})
			}
		}
	}
}

func TestUpdateInBadTimes(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z, want := zoneAt("rfc2136"), []Challenge{challenge("www.example.com", digestA)}
	for _, tt := range []struct {
		fault faults.Fault
		kind  problem.Kind
		want  string
	}{
		{faults.Fault{Kind: faults.Status}, problem.Unavailable, `the server failed: "SERVFAIL"`},
		{faults.Fault{Kind: faults.Reset}, problem.Unavailable, "connection"},
	} {
		tt.fault.Call = "dns.rfc2136.update"
		s.fault(tt.fault)
		_, err := s.present(z, want)
		if e := problem.From(err); err == nil || e.Kind != tt.kind || e.Happened() != problem.Unknown || !strings.Contains(e.Error(), tt.want) || e.Target != "ns1.example.com:53" {
			t.Errorf("%+v", e)
		}
	}
	s.mustPresent(z, want)
}

// A server that takes the request and never answers.
func TestNoAnswerInTime(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		s.client.opt.RequestTimeout = 100 * time.Millisecond
		s.fault(faults.Fault{Call: op(z.Provider, "create"), Kind: faults.Timeout})
		_, err := s.present(z, []Challenge{challenge("www.example.com", digestA)})
		if e := problem.From(err); err == nil || e.Kind != problem.Timeout || e.Happened() != problem.Unknown {
			t.Errorf("%+v", e)
		}
	})
}

type answerFunc func(*http.Request) string

func (f answerFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(f(r))), Request: r}, nil
}

// The library panics over a list without result_info; that costs an error only.
func TestCloudflareWithoutResultInfo(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	s.client.opt.HTTP = answerFunc(func(r *http.Request) string {
		if strings.HasSuffix(r.URL.Path, "/dns_records") {
			return `{"success":true,"result":[]}`
		}
		return `{"success":true,"result":[{"id":"1","name":"example.com"}]}`
	})
	_, err := s.client.Records(t.Context(), zoneAt("cloudflare"), "a.example.com", "TXT")
	if e := problem.From(err); err == nil || e.Kind != problem.Unavailable || !strings.Contains(e.Error(), "is malformed") {
		t.Errorf("%+v", e)
	}
}

func TestAnswerThatNeverEnds(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	s.client.opt.HTTP = answerFunc(func(*http.Request) string { return strings.Repeat("x", maxAnswer+10) })
	_, err := s.client.Records(t.Context(), zoneAt("digitalocean"), "a.example.com", "TXT")
	if e := problem.From(err); err == nil || !strings.Contains(e.Error(), "larger than 4 MiB") {
		t.Errorf("%+v", e)
	}
}
