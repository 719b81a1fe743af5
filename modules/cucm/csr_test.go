package cucm

import (
	"slices"
	"strings"
	"testing"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

func TestPendingCSRThatIsNotOurs(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	if csr, err := c.PendingCSR(t.Context(), "tomcat"); err != nil || csr != nil {
		t.Fatalf("nothing is pending, got %v, %v", csr, err)
	}
	theirs, err := c.GenerateCSR(t.Context(), CSRRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.LookCSR(t.Context(), CSRRequest{})
	p := wantProblem(t, err, problem.Conflict, theirs.SHA256, "replace_pending", pub)
	if p.Happened() != problem.NotDone {
		t.Error("work is not known to be undone")
	}
	for name, r := range map[string]CSRRequest{
		"replace_pending": {ReplacePending: true},
		"ours by key":     {Ours: []string{"x", theirs.KeySHA256}},
		"ours by request": {Ours: []string{theirs.SHA256}},
	} {
		if look, err := c.LookCSR(t.Context(), r); err != nil || look.Pending != theirs.SHA256 {
			t.Errorf("%s: %+v, %v", name, look, err)
		}
	}
	if got := len(w.Ledger().CSRs); got != 1 {
		t.Errorf("looking made %d CSRs", got-1)
	}
	if _, err := c.LookCSR(t.Context(), CSRRequest{Service: "ipsec"}); err != nil {
		t.Errorf("another service's CSR is in the way: %v", err)
	}
}

// A lost answer is found again: what is pending now is the result.
func TestProbeCSR(t *testing.T) {
	for _, tc := range []struct {
		kind     faults.Kind
		happened bool
	}{{faults.Lost, true}, {faults.Truncate, true}, {faults.Reset, false}} {
		w := newTestCluster(t)
		c := w.client(t, pub)
		before, err := c.GenerateCSR(t.Context(), CSRRequest{})
		if err != nil {
			t.Fatal(err)
		}
		r := CSRRequest{Ours: []string{before.KeySHA256}}
		look, err := c.LookCSR(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		w.fault(t, faults.Fault{Call: cucmtest.CallCSR, Kind: tc.kind})
		if _, err = c.GenerateCSR(t.Context(), r); problem.From(err).Happened() != problem.Unknown {
			t.Errorf("%s: %v", tc.kind, err)
		}
		csr, happened, err := c.ProbeCSR(t.Context(), r, look)
		if err != nil || happened != tc.happened {
			t.Fatalf("%s: happened %v, %v", tc.kind, happened, err)
		}
		if happened && (csr.PEM != w.Node(pub).PendingCSR("tomcat") || csr.Host != pub || csr.Service != "tomcat") {
			t.Errorf("%s: another CSR than the pending one: %+v", tc.kind, csr)
		}
	}
}

func TestMultiServerCSR(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	csr, err := c.GenerateCSR(t.Context(), CSRRequest{Distribution: "multi-server"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"automate.builders", pub, sub}; !slices.Equal(csr.Names, want) || csr.CommonName != pub {
		t.Errorf("names %v, common name %s", csr.Names, csr.CommonName)
	}
	if strings.Contains(w.logs.String(), "common name") {
		t.Error("warned of a good common name")
	}
	// As the appliance names it by itself.
	if _, err := c.GenerateCSR(t.Context(), CSRRequest{Distribution: "multi-server", CommonName: "cucm01-pub-ms.automate.builders"}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.logs.String(), "common name is not among its names") {
		t.Error("no warning about a common name that is not among the names")
	}
}

func TestCSRRequest(t *testing.T) {
	for _, tc := range []struct {
		in   CSRRequest
		want csrBody
	}{
		{CSRRequest{}, csrBody{"tomcat", "this-server", pub, "rsa", 2048, "sha256", nil}},
		{CSRRequest{Service: "tomcat-ECDSA"}, csrBody{"tomcat-ECDSA", "this-server", pub, "ec", 256, "sha256", nil}},
		{
			CSRRequest{Service: "cup", Distribution: "multi-server", CommonName: "x.y", KeyType: "ec", KeyLength: 384, Hash: "sha384", AltNames: []string{"a.b"}},
			csrBody{"cup", "multi-server", "x.y", "ec", 384, "sha384", []string{"a.b"}},
		},
	} {
		got := tc.in.withDefaults(pub).body()
		if got.Service != tc.want.Service || got.Distribution != tc.want.Distribution || got.CommonName != tc.want.CommonName ||
			got.KeyType != tc.want.KeyType || got.KeyLength != tc.want.KeyLength || got.HashAlgorithm != tc.want.HashAlgorithm || !slices.Equal(got.AltNames, tc.want.AltNames) {
			t.Errorf("got %+v, want %+v", got, tc.want)
		}
	}
}

func TestRefusedBeforeAnythingIsAsked(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	cert := w.ready(t, c)
	logins := len(w.Ledger().Logins)
	for _, service := range []string{"CallManager", "CallManager-ECDSA", "CAPF", "TVS", "ITLRecovery"} {
		_, err := c.LookCSR(t.Context(), CSRRequest{Service: service})
		wantProblem(t, err, problem.Usage, "locks the phones out", "allow_phone_lockout")
		_, err = c.LookUpload(t.Context(), service, cert)
		wantProblem(t, err, problem.Usage, "locks the phones out")
		_, _, err = c.LookRestart(t.Context(), RestartRequest{Service: service}, RestartProgress{})
		wantProblem(t, err, problem.Usage, "locks the phones out")
	}
	_, err := c.LookCSR(t.Context(), CSRRequest{AltNames: []string{"*.automate.builders"}})
	wantProblem(t, err, problem.Usage, "wildcard")
	if len(w.Ledger().Logins) != logins {
		t.Error("the node was asked")
	}
	allowed := w.client(t, pub, func(o *Options) { o.AllowPhoneLockout = true })
	if _, err := allowed.LookCSR(t.Context(), CSRRequest{Service: "CallManager"}); err != nil {
		t.Errorf("allowed outright, and refused: %v", err)
	}
}
