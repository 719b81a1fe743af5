package lab

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever is sent to the control API is answered with JSON and ends no world.
func FuzzControl(f *testing.F) {
	w := start(f, nil)
	for _, body := range []string{
		`{"call":"cucm.*","kind":"delay","wait":1}`, `{"behavior":{"eku":"reject"},"reset":true}`, `{"propagation_delay":{"1":5}}`,
		`{"add":[{"name":"a.automate.builders","type":"TXT","value":"\u0000"}]}`, `{"certificate":"","renewal_info":"{}"}`, `[]`, `null`, `{`, ``,
		`{"add_trust":{"service":"tomcat","pem":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}}`, `{"generate_csr":"tomcat-ECDSA"}`,
	} {
		for _, path := range []string{"/faults", "/cucm/" + pub, "/dns", "/acme"} {
			f.Add(path, body)
		}
	}
	routes := w.control.routes()
	f.Fuzz(func(t *testing.T, path, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, w.ControlURL(), strings.NewReader(body))
		r.URL.Path = path
		rec := httptest.NewRecorder()
		routes.ServeHTTP(rec, r)
		if rec.Code >= 500 || (rec.Code == http.StatusOK && !json.Valid(rec.Body.Bytes())) {
			t.Errorf("%s %q: %d %q", path, body, rec.Code, rec.Body)
		}
		w.faults.Clear()
	})
}
