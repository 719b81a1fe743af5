package cucmtest

import (
	"net/http"
	"testing"
)

// What another administrator does shows in the API, and not in the ledger.
func TestAnotherAdministrator(t *testing.T) {
	c := start(t, nil)
	n := c.Nodes()[0]
	text, err := n.GenerateCSR("tomcat")
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, n, http.MethodGet, "csr?service=tomcat", nil)
	wantStatus(t, r, http.StatusOK, "")
	if r.str("csr") != text || parseCSR(t, text).Subject.CommonName != n.FQDN() {
		t.Errorf("pending: %s", r.str("csr"))
	}
	if !n.DropCSR("tomcat") || n.DropCSR("tomcat") {
		t.Error("DropCSR returns the wrong value")
	}
	wantStatus(t, call(t, n, http.MethodGet, "csr?service=tomcat", nil), http.StatusNotFound, "does not exist")
	a := newCA(t)
	for _, text := range []string{a.rootPEM, a.issuerPEM} {
		if err := n.AddTrust("tomcat", text); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := n.RemoveTrust("tomcat", "no such name"); err != nil || got != 0 {
		t.Errorf("removed %d, %v", got, err)
	}
	if got, err := n.RemoveTrust("tomcat", a.root.Subject.CommonName); err != nil || got != 1 || trusted(t, n)[fingerprint(a.root.Raw)] {
		t.Errorf("removed %d, %v; left %v", got, err, trusted(t, n))
	}
	if got, err := n.RemoveTrust("tomcat", ""); err != nil || got != 1 || len(trusted(t, n)) != 0 {
		t.Errorf("removed %d, %v; left %v", got, err, trusted(t, n))
	}
	if _, err := n.GenerateCSR("no-such"); err == nil {
		t.Error("a CSR for a service that there is not")
	}
	if _, err := n.RemoveTrust("no-such", ""); err == nil {
		t.Error("removed trust of a service that there is not")
	}
	if l := c.Ledger(); len(l.CSRs) != 0 || len(l.Uploads) != 0 {
		t.Errorf("ledger: %+v", l)
	}
}
