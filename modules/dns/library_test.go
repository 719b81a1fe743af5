package dns

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

// What the libraries would read from their environment changes nothing, neither
// does it end the process.
func TestLibrariesReadNoEnvironment(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(bad, []byte("[profile broken\nregion\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": bad, "AWS_SHARED_CREDENTIALS_FILE": bad, "AWS_PROFILE": "unknown", "AWS_CA_BUNDLE": bad + ".none", "AWS_MAX_ATTEMPTS": "many",
		"AWS_REGION": "eu-north-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_ROUTE_53": "http://127.0.0.1:1",
		"HTTPS_PROXY": "http://127.0.0.1:1", "SSL_CERT_FILE": bad,
	} {
		t.Setenv(name, value)
	}
	for _, p := range []string{"route53", "digitalocean", "cloudflare"} {
		s := newScene(t, dnstest.Options{})
		want := []Challenge{challenge("www.example.com", digestA)}
		records := s.mustPresent(zoneAt(p), want)
		if err := s.client.Remove(t.Context(), zoneAt(p), want, records, nil); err != nil || len(s.TXT().History) != 2 {
			t.Errorf("%s: %v, %+v", p, err, s.TXT())
		}
	}
}

func TestUnexported(t *testing.T) {
	type inner struct{ once sync.Once }
	type outer struct{ inner }
	o := &outer{}
	once, err := unexported[sync.Once](o, "once")
	if err != nil || once != &o.once {
		t.Errorf("%p, %v, want %p", once, err, &o.once)
	}
	if _, err := unexported[sync.Mutex](o, "once"); problem.From(err).Kind != problem.Internal {
		t.Errorf("another type: %v", err)
	}
	if _, err := unexported[sync.Once](o, "twice"); problem.From(err).Kind != problem.Internal {
		t.Errorf("no field: %v", err)
	}
}

// What others have at a name stays as it is, to the letter.
func TestForeignValuesStayToTheLetter(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		foreign := []string{`"quotes"`, `back\slash "and" more`, "ümlaut", strings.Repeat("long", 100)}
		for _, v := range foreign {
			s.add("_acme-challenge.www.example.com", "TXT", v)
		}
		before := s.texts("_acme-challenge.www.example.com")
		want := []Challenge{challenge("www.example.com", digestA)}
		s.mustPresent(z, want)
		if got := s.texts("_acme-challenge.www.example.com"); len(got) != len(before)+1 {
			t.Errorf("present: %q", got)
		}
		if err := s.client.Remove(t.Context(), z, want, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := s.texts("_acme-challenge.www.example.com"); !slices.Equal(got, before) {
			t.Errorf("got %q, want %q", got, before)
		}
		if n := len(s.TXT().History); n != len(foreign)+2 {
			t.Errorf("%d changes", n)
		}
	})
}

// The library's own pages hold 20 records.
func TestDigitalOceanListsInLargePages(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	for i := range 250 {
		s.add("many.example.com", "TXT", strconv.Itoa(i))
	}
	got, err := s.client.Records(t.Context(), zoneAt("digitalocean"), "", "")
	if n := s.requests.n.Load(); err != nil || len(got) != 250 || n != 2 {
		t.Errorf("%d records in %d requests, %v", len(got), n, err)
	}
}

func TestRoute53SetThatOthersChangeAllTheTime(t *testing.T) {
	const body = `<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>InvalidChangeBatch</Code>` +
		`<Message>[Tried to create resource record set [name='a.', type='TXT'] but it already exists]</Message></Error></ErrorResponse>`
	for _, tt := range []struct {
		times int
		kind  problem.Kind // "" if it ends well
	}{{maxTurns - 1, ""}, {maxTurns, problem.Unavailable}} {
		s := newScene(t, dnstest.Options{})
		s.fault(faults.Fault{Call: "dns.route53.create", Kind: faults.Status, Code: 400, Body: body, Times: tt.times})
		_, err := s.present(zoneAt("route53"), []Challenge{challenge("www.example.com", digestA)})
		switch e := problem.From(err); {
		case tt.kind == "" && err != nil:
			t.Errorf("%d times: %v", tt.times, err)
		case tt.kind != "" && (err == nil || e.Kind != tt.kind || e.Happened() != problem.NotDone || !strings.Contains(e.Error(), "already exists")):
			t.Errorf("%d times: %+v", tt.times, e)
		}
	}
}

func set(name string, values ...string) types.ResourceRecordSet {
	out := types.ResourceRecordSet{Name: aws.String(name), Type: types.RRTypeTxt, TTL: aws.Int64(60)}
	for _, v := range values {
		out.ResourceRecords = append(out.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	return out
}

func TestRecordSetTakesItsOwn(t *testing.T) {
	page := func() *sdk.ListResourceRecordSetsOutput {
		return &sdk.ListResourceRecordSetsOutput{IsTruncated: true, ResourceRecordSets: []types.ResourceRecordSet{set(`\052.Example.com.`, `"a"`), set("b.example.com.", `"b"`)}}
	}
	wild := &recordSet{name: "*.example.com", typ: "TXT"}
	got := page()
	wild.note(got)
	if got.IsTruncated || len(got.ResourceRecordSets) != 1 || *got.ResourceRecordSets[0].Name != "*.example.com." || *wild.read.Name != `\052.Example.com.` {
		t.Errorf("%+v, read %+v", got, wild.read)
	}
	none := &recordSet{name: "a.example.com", typ: "TXT", read: wild.read}
	got = page()
	none.note(got)
	if got.IsTruncated || len(got.ResourceRecordSets) != 0 || none.read != nil {
		t.Errorf("%+v, read %+v", got, none.read)
	}
	got = page()
	(*recordSet)(nil).note(got)
	if !got.IsTruncated || len(got.ResourceRecordSets) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestRecordSetSwap(t *testing.T) {
	asked := func(action types.ChangeAction, values ...string) *types.ChangeBatch {
		s := set("a.", values...)
		return &types.ChangeBatch{Changes: []types.Change{{Action: action, ResourceRecordSet: &s}}}
	}
	have := func(values ...string) *types.ResourceRecordSet { s := set("a.", values...); return &s }
	const upsert = types.ChangeActionUpsert
	for _, tt := range []struct {
		name  string
		read  *types.ResourceRecordSet
		asked *types.ChangeBatch
		want  string
	}{
		{"first value", nil, asked(upsert, `"a"`), `CREATE ["a"]`},
		{"one more", have(`"\"q\"" "r"`), asked(upsert, `"q\"r"`, `"a"`), `DELETE ["\"q\"" "r"] CREATE ["\"q\"" "r" "a"]`},
		{"there already", have(`"b"`, `"a"`), asked(upsert, `"b"`, `"a"`, `"a"`), ``},
		{"one less", have(`"b"`, `"a"`), asked(upsert, `"b"`), `DELETE ["b" "a"] CREATE ["b"]`},
		{"the last", have(`"a"`), asked(types.ChangeActionDelete, `"a"`), `DELETE ["a"]`},
	} {
		batch, err := (&recordSet{name: "a", typ: "TXT", read: tt.read}).swap(tt.asked)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if batch != nil {
			for _, c := range batch.Changes {
				got = append(got, string(c.Action), "["+strings.Join(valuesOf(c.ResourceRecordSet), " ")+"]")
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, s, tt.want)
		}
	}
	alias := &types.ResourceRecordSet{Name: aws.String("a."), Type: types.RRTypeTxt, AliasTarget: &types.AliasTarget{}}
	if _, err := (&recordSet{name: "a", typ: "TXT", read: alias}).swap(asked(upsert, `"a"`)); problem.From(err).Kind != problem.Conflict {
		t.Errorf("an alias: %v", err)
	}
	if _, err := (*recordSet)(nil).swap(asked(upsert, `"a"`)); err == nil {
		t.Error("a change of no known set goes through")
	}
}

func TestPickHostedZone(t *testing.T) {
	zone := func(id, name string, private bool) types.HostedZone {
		return types.HostedZone{Id: &id, Name: &name, Config: &types.HostedZoneConfig{PrivateZone: private}}
	}
	for _, tt := range []struct {
		zones []types.HostedZone
		want  string
		kind  problem.Kind
	}{
		{[]types.HostedZone{zone("1", "example.com.", true), zone("2", "example.com.", false), zone("3", "example.org.", false)}, "2", ""},
		{[]types.HostedZone{zone("1", "example.com.", true)}, "1", ""},
		{[]types.HostedZone{zone("1", "example.com.", false), zone("2", "example.com.", false)}, "", problem.Conflict},
		{[]types.HostedZone{zone("3", "example.org.", false)}, "", problem.NotFound},
	} {
		got, err := pick(tt.zones, "example.com")
		if got != tt.want || (err != nil) != (tt.kind != "") || err != nil && problem.From(err).Kind != tt.kind {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}
