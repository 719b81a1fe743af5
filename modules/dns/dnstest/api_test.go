package dnstest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	r53 "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/jonboulle/clockwork"
	libcloudflare "github.com/libdns/cloudflare"
	"github.com/libdns/libdns"

	"moonseal/modules/faults"
)

type call struct{ method, path, token, body, want string }

// check sends each call and compares status and a part of the body.
func check(t *testing.T, w *World, base string, calls []call) {
	t.Helper()
	for _, c := range calls {
		req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := w.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		status, words, _ := strings.Cut(c.want, " ")
		if strconv.Itoa(resp.StatusCode) != status || !strings.Contains(string(body), words) {
			t.Errorf("%s %s %s\n got %d %s\nwant %s", c.method, c.path, c.body, resp.StatusCode, body, c.want)
		}
	}
}

func TestCloudflareIsStrict(t *testing.T) {
	w := start(t, Options{})
	tok := w.Credentials().CloudflareToken
	recs := "/zones/" + cfZoneID("example.com") + "/dns_records"
	check(t, w, "https://api.cloudflare.com/client/v4", []call{
		{"GET", "/zones", "", "", `400 "code":9106`},
		{"GET", "/zones", "short", "", `400 "code":6111`},
		{"GET", "/zones", strings.Repeat("a", 40), "", `403 "message":"Invalid access token"`},
		{"GET", "/zones?name=example.com", tok, "", `200 "total_count":1`},
		{"GET", "/zones?name=unknown.test", tok, "", `200 "result":[],"success":true`},
		{"GET", "/zones/0123/dns_records", tok, "", `404 "code":7003`},
		{"GET", "/nothing", tok, "", `400 "code":7000`},
		{"POST", recs, tok, `{`, `400 "code":9207`},
		{"POST", recs, tok, `{"type":"TXT","name":"a","content":"\"v\"","ttl":30}`, `400 "code":9021`},
		{"POST", recs, tok, `{"type":"A","name":"a","content":"v"}`, `400 "code":9005`},
		{"POST", recs, tok, `{"type":"NONE","name":"a","content":"v"}`, `400 "code":1004`},
		{"POST", recs, tok, `{"type":"TXT","name":"a","content":"\"v\"","ttl":60}`, `200 "name":"a.example.com","type":"TXT","content":"\"v\""`},
		{"POST", recs, tok, `{"type":"TXT","name":"a.example.com","content":"\"v\"","ttl":60}`, `400 "code":81058`},
		{"POST", recs, tok, `{"type":"CNAME","name":"a","content":"b.test"}`, `400 "code":81054`},
		{"GET", recs + "?type=TXT&name=a.example.com&content.contains=v", tok, "", `200 "count":1`},
		{"GET", recs + "?type=TXT&name=a", tok, "", `200 "count":0`},
		{"DELETE", recs + "/" + cfRecordID(7), tok, "", `404 "code":81044`},
		{"DELETE", recs + "/" + cfRecordID(1001), tok, "", `200 "success":true`},
	})
	if got := w.TXT(); len(got.Present) != 0 || len(got.History) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestCloudflareProviderAndPages(t *testing.T) {
	w := start(t, Options{})
	for i := range 120 {
		mustAdd(t, w, fmt.Sprintf("n%d.example.com", i), "TXT", "v")
	}
	p := &libcloudflare.Provider{APIToken: w.Credentials().CloudflareToken, HTTPClient: w.HTTPClient()}
	all, err := p.GetRecords(t.Context(), "example.com.")
	if err != nil || len(all) != 120 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	made, err := p.AppendRecords(t.Context(), "example.com.", []libdns.Record{libdns.TXT{Name: "x", TTL: time.Minute, Text: "tok-en_1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DeleteRecords(t.Context(), "example.com.", made); err != nil {
		t.Fatal(err)
	}
	if got := len(w.TXT().Present); got != 120 {
		t.Errorf("%d records are left", got)
	}
}

func TestDigitalOceanIsStrict(t *testing.T) {
	w := start(t, Options{})
	tok := w.Credentials().DigitalOceanToken
	const recs = "/domains/example.com/records"
	check(t, w, "https://api.digitalocean.com/v2", []call{
		{"GET", recs, "wrong", "", `401 {"id":"Unauthorized","message":"Unable to authenticate you"`},
		{"GET", "/domains/example.com./records", tok, "", `404 "id":"not_found"`},
		{"GET", "/domains", tok, "", `200 "name":"example.com"`},
		{"GET", "/domains/unknown.test/records", tok, "", `404 The resource you were accessing could not be found.`},
		{"POST", recs, tok, `{`, `400 bad_request`},
		{"POST", recs, tok, `{"type":"TXT","data":"v"}`, `422 Name can't be blank.`},
		{"POST", recs, tok, `{"type":"TXT","name":"a","data":"v","ttl":5}`, `422 greater than or equal to 30`},
		{"POST", recs, tok, `{"type":"CNAME","name":"c","data":"b.test"}`, `422 Data needs to end with a dot (.)`},
		{"POST", recs, tok, `{"type":"TXT","name":"a","data":"v","ttl":60}`, `201 "name":"a","data":"v"`},
		{"POST", recs, tok, `{"type":"CNAME","name":"a","data":"b.test."}`, `422 CNAME records cannot share a name`},
		{"GET", recs + "?type=TXT&name=a.example.com", tok, "", `200 "meta":{"total":1}`},
		{"GET", recs + "?type=TXT&name=a", tok, "", `200 "meta":{"total":0}`},
		{"DELETE", recs + "/abc", tok, "", `404 not_found`},
		{"DELETE", recs + "/7", tok, "", `404 not_found`},
		{"DELETE", recs + "/1001", tok, "", `204 `},
	})
	for i := range 25 {
		mustAdd(t, w, fmt.Sprintf("n%d.example.com", i), "TXT", "v")
	}
	check(t, w, "https://api.digitalocean.com/v2", []call{
		{"GET", recs, tok, "", `200 page=2`},
		{"GET", recs + "?page=2", tok, "", `200 "prev":`},
	})
}

func awsClient(w *World, key, secret string) *r53.Client {
	return r53.New(r53.Options{
		Region: "us-east-1", HTTPClient: w.HTTPClient(), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
	})
}

func TestRoute53IsStrict(t *testing.T) {
	clock := clockwork.NewFakeClockAt(time.Now())
	w := start(t, Options{Clock: clock, ChangeDelay: time.Minute})
	c := w.Credentials()
	good := awsClient(w, c.Route53AccessKeyID, c.Route53SecretKey)
	zone := r53ZoneID("example.com")
	change := func(client *r53.Client, zone string, action types.ChangeAction, name string, ttl int64, values ...string) (*r53.ChangeResourceRecordSetsOutput, error) {
		set := &types.ResourceRecordSet{Name: &name, Type: types.RRTypeTxt, TTL: &ttl}
		for _, v := range values {
			set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: &v})
		}
		return client.ChangeResourceRecordSets(t.Context(), &r53.ChangeResourceRecordSetsInput{
			HostedZoneId: &zone,
			ChangeBatch:  &types.ChangeBatch{Changes: []types.Change{{Action: action, ResourceRecordSet: set}}},
		})
	}
	const n = "a.example.com."
	for _, tt := range []struct {
		client *r53.Client
		zone   string
		action types.ChangeAction
		name   string
		ttl    int64
		value  string
		want   string
	}{
		{awsClient(w, "AKIAOTHER", "x"), zone, "UPSERT", n, 60, `"v"`, "403 InvalidClientTokenId"},
		{awsClient(w, c.Route53AccessKeyID, "x"), zone, "UPSERT", n, 60, `"v"`, "403 SignatureDoesNotMatch"},
		{good, "Z0", "UPSERT", n, 60, `"v"`, "404 NoSuchHostedZone"},
		{good, zone, "UPSERT", n, 60, `v`, "400 InvalidChangeBatch enclosed in quotation marks"},
		{good, zone, "UPSERT", n, 60, `"` + strings.Repeat("x", 256) + `"`, "400 InvalidChangeBatch too long"},
		{good, zone, "UPSERT", "a.example.org.", 60, `"v"`, "400 InvalidChangeBatch is not permitted in zone"},
		{good, zone, "DELETE", n, 60, `"v"`, "400 InvalidChangeBatch but it was not found"},
		{good, zone, "CREATE", n, 60, `"v"`, ""},
		{good, zone, "CREATE", n, 60, `"w"`, "400 InvalidChangeBatch but it already exists"},
		{good, zone, "DELETE", n, 61, `"v"`, "400 InvalidChangeBatch do not match the current values"},
		{good, zone, "UPSERT", n, 60, `"w"`, ""},
		{good, zone, "DELETE", n, 60, `"w"`, ""},
	} {
		_, err := change(tt.client, tt.zone, tt.action, tt.name, tt.ttl, tt.value)
		for i, word := range strings.SplitN(tt.want, " ", 3) {
			if i == 0 && word != "" {
				word = "StatusCode: " + word
			}
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s %s %s: got %v, want %s", tt.action, tt.name, tt.value, err, tt.want)
			}
		}
	}
	if _, err := change(good, zone, "UPSERT", n, 60, `"v"`, `"v"`); err == nil || !strings.Contains(err.Error(), "Duplicate") {
		t.Errorf("two equal values: %v", err)
	}
	out, err := change(good, zone, "UPSERT", n, 60, `"v"`, `"w" "\303\274"`)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Records(); len(got) != 2 || got[1].Value != "wü" {
		t.Errorf("%+v", got)
	}
	status := func() types.ChangeStatus {
		got, err := good.GetChange(t.Context(), &r53.GetChangeInput{Id: out.ChangeInfo.Id})
		if err != nil {
			t.Fatal(err)
		}
		return got.ChangeInfo.Status
	}
	if got := status(); got != types.ChangeStatusPending {
		t.Error(got)
	}
	clock.Advance(time.Minute)
	if got := status(); got != types.ChangeStatusInsync {
		t.Error(got)
	}
}

func TestRoute53ListsFromAName(t *testing.T) {
	w := start(t, Options{})
	c := w.Credentials()
	client := awsClient(w, c.Route53AccessKeyID, c.Route53SecretKey)
	zones, err := client.ListHostedZonesByName(t.Context(), &r53.ListHostedZonesByNameInput{DNSName: aws.String("acme.example.com.")})
	if err != nil {
		t.Fatal(err)
	}
	if len(zones.HostedZones) != 2 || *zones.HostedZones[0].Name != "sub.example.com." {
		t.Errorf("zones from a name on: %+v", zones.HostedZones)
	}
	mustAdd(t, w, "b.example.com", "TXT", "v")
	id := r53ZoneID("example.com")
	sets, err := client.ListResourceRecordSets(t.Context(), &r53.ListResourceRecordSetsInput{HostedZoneId: &id, StartRecordName: aws.String("a.example.com."), MaxItems: aws.Int32(1)})
	if err != nil || len(sets.ResourceRecordSets) != 1 || *sets.ResourceRecordSets[0].Name != "b.example.com." || *sets.ResourceRecordSets[0].ResourceRecords[0].Value != `"v"` {
		t.Errorf("%+v, %v", sets, err)
	}
}

// The faults of an API are named by its operations.
func TestAPIFaults(t *testing.T) {
	set := faults.New()
	w := start(t, Options{Faults: set})
	if _, err := set.Add(faults.Fault{Call: "dns.cloudflare.create", Kind: faults.Lost}); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Add(faults.Fault{Call: "dns.digitalocean.list", Kind: faults.Status, Code: 429}); err != nil {
		t.Fatal(err)
	}
	p := &libcloudflare.Provider{APIToken: w.Credentials().CloudflareToken, HTTPClient: w.HTTPClient()}
	rec := []libdns.Record{libdns.TXT{Name: "x", TTL: time.Minute, Text: "v"}}
	if _, err := p.AppendRecords(context.Background(), "example.com", rec); err == nil {
		t.Error("a lost answer is not an error")
	}
	if got := w.TXT().Present; len(got) != 1 {
		t.Errorf("work of a lost answer: %+v", got)
	}
	check(t, w, "https://api.digitalocean.com/v2", []call{{"GET", "/domains/example.com/records", w.Credentials().DigitalOceanToken, "", "429 "}})
	if _, err := json.Marshal(w.TXT()); err != nil {
		t.Error(err)
	}
}
