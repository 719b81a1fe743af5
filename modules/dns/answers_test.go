package dns

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// answering is a provider that returns one answer to everything.
type answering struct {
	status int
	body   []byte
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// Whatever a provider answers, it is records of the name that was asked for, or a
// problem that names the provider.
func FuzzProviderAnswers(f *testing.F) {
	for _, body := range []string{
		`{"success":true,"result":[{"id":"1","name":"example.com","type":"TXT","content":"\"v\"","ttl":60}],"result_info":{"page":1,"per_page":100,"total_count":1,"total_pages":1}}`,
		`{"success":false,"errors":[{"code":10000,"message":"no"}]}`, `{"result":[null]}`, `{"result":null,"result_info":{"total_count":-1,"total_pages":9223372036854775807}}`,
		`{"domain_records":[{"id":1,"type":"TXT","name":"_acme-challenge","data":"v","ttl":60}],"links":{}}`, `{"domain_records":[{"type":"MX","priority":-1}],"meta":{"total":-1}}`,
		`<ListResourceRecordSetsResponse><ResourceRecordSets><ResourceRecordSet><Name>_acme-challenge.example.com.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>"v"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></ResourceRecordSets><IsTruncated>false</IsTruncated></ListResourceRecordSetsResponse>`,
		`<ListHostedZonesByNameResponse><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name></HostedZone></HostedZones></ListHostedZonesByNameResponse>`,
		`{"success":true,"result":[{"id":"0123456789abcdef0123456789abcdef","name":"example.com","status":"moved"},{"id":"1","name":"example.com","status":"active"}]}`,
		`{"success":true,"result":[{"id":"1","status":"active"},{"id":"2","status":"active"}]}`, `{"result":[{},{}]}`,
		`[]`, `{`, ``,
	} {
		f.Add(200, []byte(body))
	}
	f.Add(403, []byte(`{"message":"no"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		const name = "_acme-challenge.example.com"
		for _, p := range []string{"cloudflare", "digitalocean", "route53"} {
			z := zoneAt(p)
			z.HostedZoneID = "Z1"
			c := New(Options{
				HTTP: answering{status, body}, Resolvers: []string{"192.0.2.1"},
				Secret: func(context.Context, secret.Handle) (string, error) { return "AKIAIOSFODNN7EXAMPLE", nil },
			})
			records, err := c.Records(t.Context(), z, name, "TXT")
			if e := problem.From(err); e != nil && (e.Kind == problem.Internal || e.Target == "") {
				t.Errorf("%s, %d %q: %+v", p, status, body, e)
			}
			for _, r := range records {
				if r.Name != name || r.Type != "TXT" {
					t.Errorf("%s, %q: %+v", p, body, r)
				}
			}
		}
	})
}
