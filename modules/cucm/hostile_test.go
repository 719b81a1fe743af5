package cucm

import (
	"slices"
	"strings"
	"testing"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
)

// What a node that was taken over asks for in its signing request, and what the
// playbook says beside it.
func TestNodeThatAsksForOtherNames(t *testing.T) {
	const plain, cluster = `key_type = "ec"`, `key_type = "ec", distribution = "multi-server", members = { "cucm02-sub.automate.builders" }`
	for _, c := range []struct {
		attack  string
		options string
		extra   []string
		refused string // "" means that it is expected
	}{
		{"nothing", plain, nil, ""},
		{"the cluster's own names", cluster, nil, ""},
		{"www of the domain", plain, []string{"www.automate.builders"}, "www.automate.builders"},
		{"mail of the domain beside its cluster", cluster, []string{"mail.automate.builders"}, "mail.automate.builders"},
		{"the domain without a cluster", plain, []string{"automate.builders"}, "automate.builders"},
		{"another node", plain, []string{sub}, sub},
		{"a node that is not listed", `key_type = "ec", distribution = "multi-server"`, nil, sub},
		{"all of the domain", plain, []string{"*.automate.builders"}, "*.automate.builders"},
		{"a name below its own", plain, []string{"www." + pub}, "www." + pub},
		{"a name that ends as its own", plain, []string{"x" + pub}, "x" + pub},
		{"its own name with a last dot", plain, []string{pub + "."}, pub + "."},
		{"its own name and a line break", plain, []string{pub + "\n"}, pub + `\n`},
		{"a name of another domain", cluster, []string{"www.example.com"}, "www.example.com"},
		{"the top level", cluster, []string{"builders"}, "builders"},
		{"a name that is named", plain + `, names = { "WWW.automate.builders." }`, []string{"www.automate.builders"}, ""},
		{"a name that was asked for", plain + `, alt_names = { "phones.automate.builders" }`, nil, ""},
		{"a common name that was asked for", plain + `, common_name = "` + pub + `"`, nil, ""},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, func(o *cucmtest.Options) { o.Behavior.ExtraNames = c.extra })
			src := `csr = node:csr { ` + c.options + ` }`
			err := s.run(src)
			if c.refused == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			p := wantProblem(t, err, problem.Mismatch, `for "`+c.refused+`", and the playbook expects `, "members")
			if p.Happened() != problem.NotDone {
				t.Errorf("%s", p.Happened())
			}
			// It counts as ours: the next run is not kept from asking again.
			s.configure(t, func(b *cucmtest.Behavior) { b.ExtraNames = nil })
			s.must(`node:csr { key_type = "ec" }`)
		})
	}
}

// The answer is lost, and the request with it: it is generated again rather than used.
func TestLostRequestForOtherNamesIsNotTaken(t *testing.T) {
	s := newScript(t, func(o *cucmtest.Options) { o.Behavior.ExtraNames = []string{"www.automate.builders"} })
	s.fault(t, faults.Fault{Call: cucmtest.CallCSR, Kind: faults.Lost})
	if p := problem.From(s.run(`node:csr { key_type = "ec" }`)); p.Happened() != problem.Unknown {
		t.Fatalf("got %v", p)
	}
	if got, happened, err := s.resume(); happened || err == nil || problem.From(err).Kind != problem.Mismatch {
		t.Errorf("%v, happened %t, %v", got, happened, err)
	}
}

// Names that no grant allows are refused before the node is changed.
func TestCSRKeepsToTheGrantedNames(t *testing.T) {
	s := newScript(t)
	allowed := grant.Rules{"p": {Hosts: []string{"*"}, Names: []string{pub}}}.For("p")
	var err error
	if s.net, err = grant.New(grant.Options{Hosts: s.Addrs(), Allowed: allowed}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, s.run(`node:csr { key_type = "ec", alt_names = { "www.automate.builders" } }`), problem.Refused, "www.automate.builders", "names:")
	if n := len(s.Ledger().CSRs); n != 0 {
		t.Errorf("%d CSRs", n)
	}
	s.must(`node:csr { key_type = "ec" }`)
}

func FuzzExpectedNames(f *testing.F) {
	f.Add(pub, "www.automate.builders", "multi-server")
	f.Add("cucm01-pub", "", "this-server")
	f.Add("10.0.0.5", "0.0.5", "multi-server")
	f.Fuzz(func(t *testing.T, host, name, distribution string) {
		c := &Client{o: Options{Host: strings.ToLower(host)}}
		r := CSRRequest{Distribution: distribution}
		allowed := append(parentDomain(strings.ToLower(host)), strings.ToLower(host), strings.TrimSuffix(strings.ToLower(host), "."))
		if c.checkNames(r, &x509.CSR{Names: []string{name}}) == nil && name != "" && !slices.Contains(allowed, name) {
			t.Errorf("%q may be in a request of %q", name, host)
		}
	})
}

// A user's name is an ordinary word: masked, it would be blanked out in all texts.
func TestUserNamesAreNotMasked(t *testing.T) {
	s := newScript(t)
	s.must(`node:identity "tomcat"`)
	const text = "the OS " + admin + " account, " + password
	if got := s.redactor.Redact(text); got != "the OS "+admin+" account, [secret]" {
		t.Errorf("%q", got)
	}
}
