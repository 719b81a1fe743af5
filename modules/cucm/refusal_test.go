package cucm

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"moonseal/runtime/problem"
)

func TestRefusal(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		kind   problem.Kind
		work   problem.Work
		want   string // in the message, the words, the tracking id or the hint
	}{
		{400, `{"key":400,"messages":["Invalid JSON Format"],"trackingId":"UC_24aed173"}`, problem.Refused, problem.NotDone, `400 Bad Request: "Invalid JSON Format" (tracking id UC_24aed173)`},
		{400, `{"messages":["a","b"]}`, problem.Refused, problem.NotDone, `"a; b"`},
		{400, `{"messages":"one string"}`, problem.Refused, problem.NotDone, `"one string"`},
		{400, `{"message":"m"}`, problem.Refused, problem.NotDone, `"m"`},
		{400, `{"error":"e","messages":[]}`, problem.Refused, problem.NotDone, `"e"`},
		{400, `{"other":1}`, problem.Refused, problem.NotDone, `{"other":1}`},
		{400, ``, problem.Refused, problem.NotDone, "with an empty body"},
		{503, "<html><head><style>p{}</style><title>Cisco</title></head><body><script>x()</script>Service&nbsp;is <b>starting</b></body>", problem.Unavailable, problem.Unknown, `with an HTML page: "Cisco Service is starting"`},
		{502, "Bad gateway", problem.Unavailable, problem.Unknown, "with a body that is not JSON"},
		{503, "<html>the session expired</html>", problem.Unavailable, problem.Unknown, "session expired"}, // no judgement of the certificate
		{401, ``, problem.Auth, problem.NotDone, "OS administrator"},
		{401, `{"messages":["wildcard"]}`, problem.Auth, problem.NotDone, "OS administrator"},
		{403, `{"messages":["no"]}`, problem.Auth, problem.NotDone, "privilege level 1"},
		{404, `<html>`, problem.NotFound, problem.NotDone, "release 14"},
		{404, `{"messages":["Not Found"]}`, problem.NotFound, problem.NotDone, `"Not Found"`},
		{301, ``, problem.Refused, problem.NotDone, "redirects"},
		{400, `{"messages":["CA certificate is not available in the trust-store"]}`, problem.Refused, problem.NotDone, "upload it first"},
		{500, `{"messages":["/usr/local/platform/.security/tomcat/keys/tomcat.csr does not exist"]}`, problem.Mismatch, problem.Unknown, "fresh CSR"},
		{500, `{"messages":["CSR public key and certificate public key do not match"]}`, problem.Mismatch, problem.Unknown, "fresh CSR"},
		{400, `{"messages":["CSR SAN and Certificate SAN does not match"]}`, problem.Mismatch, problem.NotDone, "exactly the names"},
		{400, `{"messages":["x/tomcat.der could not be uploaded","Certificate does not have the extended key usage clientAuth"]}`, problem.Refused, problem.NotDone, "FN74345"},
		{400, `{"messages":["x/tomcat.der could not be uploaded"]}`, problem.Refused, problem.NotDone, "certificate management log"},
		{400, `{"messages":["Certificate has expired"]}`, problem.Refused, problem.NotDone, "dates"},
		{400, `{"messages":["Wildcard certificates are not supported"]}`, problem.Refused, problem.NotDone, "wildcard"},
	} {
		p := refusal(tc.status, http.Header{}, []byte(tc.body), time.Now())
		if p.Kind != tc.kind || p.Happened() != tc.work || !strings.Contains(p.Error()+" "+p.Hint, tc.want) {
			t.Errorf("%d %s\n returns %s, %s, %q, hint %q; want %s, %s, %q", tc.status, tc.body, p.Kind, p.Happened(), p, p.Hint, tc.kind, tc.work, tc.want)
		}
	}
}

func FuzzReadError(f *testing.F) {
	f.Add([]byte(`{"key":400,"messages":["Invalid JSON Format"],"trackingId":"UC_1"}`))
	f.Add([]byte("<html><!-- <script>"))
	f.Add([]byte(`{"messages":[1,{"a":2}],"trackingId":7}`))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := readError(body)
		if len(s.words) > maxWords+3 || len(s.tracking) > 103 || !utf8.ValidString(s.words) {
			t.Errorf("unbounded or broken: %+v", s)
		}
		if s.words == "" && s.form == "" {
			t.Errorf("%q: no words", body)
		}
	})
}

func TestPEMTexts(t *testing.T) {
	const cert, csr = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
	c, r := `"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"`, `"-----BEGIN NEW CERTIFICATE REQUEST-----\r\nAAAA\r\n-----END NEW CERTIFICATE REQUEST-----\r\n"`
	for _, tc := range []struct {
		body, what string
		want       int
	}{
		{`{"certificates":[{"certificate":` + c + `},{"certificate":` + c + `}]}`, certificates, 2},
		{`[{"certificate":` + c + `}]`, certificates, 1},
		{`[` + c + `,` + c + `]`, certificates, 2},
		{`{"service":"tomcat","certificate":` + c + `,"csr":` + r + `}`, certificates, 1},
		{`{"service":"tomcat","certificate":` + c + `,"csr":` + r + `}`, requests, 1},
		{`[{"service":"ipsec","certificate":` + c + `},{"service":"tomcat","certificate":` + c + `}]`, certificates, 1},
		{`{"service":["tomcat"],"certificate":` + c + `}`, certificates, 1},
		{c, certificates, 1},
		{cert, certificates, 1},
		{csr, requests, 1},
		{csr, certificates, 0},
		{``, certificates, 0},
		{`{}`, certificates, 0},
		{`[]`, certificates, 0},
		{`null`, certificates, 0},
		{`{"certificates":[]}`, certificates, 0},
	} {
		got, err := pemTexts([]byte(tc.body), tc.what, "tomcat")
		if err != nil || len(got) != tc.want {
			t.Errorf("%s: %d, %v; want %d", tc.body, len(got), err, tc.want)
		}
	}
	if _, err := pemTexts([]byte("<html>hello"), certificates, "tomcat"); err == nil {
		t.Error("HTML passes for JSON")
	}
}

func FuzzPEMTexts(f *testing.F) {
	f.Add([]byte(`{"certificates":[{"certificate":"-----BEGIN CERTIFICATE-----\nAAAA"}]}`))
	f.Add([]byte(`[{"service":"ipsec"},[[["-----BEGIN NEW CERTIFICATE REQUEST-----"]]]]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, what := range []string{certificates, requests} {
			texts, _ := pemTexts(body, what, "tomcat")
			for _, text := range texts {
				if !strings.Contains(text, what) {
					t.Errorf("%q is not a %s", text, what)
				}
			}
		}
	})
}
