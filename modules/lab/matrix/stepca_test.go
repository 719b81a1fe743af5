package matrix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/daemontest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/lab"
	certs "moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// These tests renew with a real CA: step-ca on a loopback port, as the test's user.

const stepCAHost = "ca.automate.builders"

// stepCA is a step-ca with two provisioners, which has a folder and is not started yet.
type stepCA struct {
	*daemontest.Daemon
	program string
	roots   string // in PEM
}

// provisioners are ACME directories of one host, each with accounts of its own.
func provisioners() []string { return []string{"one", "two"} }

func directory(provisioner string) string {
	return "https://" + stepCAHost + "/acme/" + provisioner + "/directory"
}

// newStepCA skips the test if there is no step-ca.
func newStepCA(t *testing.T) *stepCA {
	t.Helper()
	tools, err := filepath.Abs("../../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	ca := &stepCA{program: daemontest.Program(t, "step-ca", "make step-ca", tools), Daemon: daemontest.New(t)}
	ca.makePKI(t)
	ca.configure(t)
	return ca
}

// serves makes it the CA of a site.
func (ca *stepCA) serves(o *lab.Options) {
	o.Hosts, o.Roots = map[string]string{stepCAHost + ":443": ca.Addr()}, ca.roots
}

// makePKI makes a root and the intermediate that signs.
func (ca *stepCA) makePKI(t *testing.T) {
	t.Helper()
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range []string{"root", "intermediate"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "step-ca " + name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1 - i, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		ca.Write(name+".pem", string(text))
		ca.Write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
		if i == 0 {
			ca.roots = string(text)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		parentKey = key
	}
}

func (ca *stepCA) configure(t *testing.T) {
	t.Helper()
	var all []map[string]any
	for _, name := range provisioners() {
		all = append(all, map[string]any{
			"type": "ACME", "name": name, "challenges": []string{"dns-01"},
			// By default it is one day, of which moonseal would renew after a half.
			"claims": map[string]any{"maxTLSCertDuration": "2160h", "defaultTLSCertDuration": "2160h"},
		})
	}
	text, err := json.Marshal(map[string]any{
		"root": filepath.Join(ca.Dir, "root.pem"), "crt": filepath.Join(ca.Dir, "intermediate.pem"), "key": filepath.Join(ca.Dir, "intermediate.key"),
		"address": ca.Addr(), "dnsNames": []string{stepCAHost},
		"db":        map[string]any{"type": "bbolt", "dataSource": filepath.Join(ca.Dir, "db")},
		"authority": map[string]any{"provisioners": all},
	})
	if err != nil {
		t.Fatal(err)
	}
	ca.Write("ca.json", string(text))
}

// start returns once it serves. It validates through resolver.
func (ca *stepCA) start(resolver string) {
	ca.Run(ca.program, filepath.Join(ca.Dir, "ca.json"), "--resolver", resolver, "--acme-strict-fqdn")
	ca.Says("Serving HTTPS on ")
}

// stepSite is a site whose CA is a step-ca.
func stepSite(t *testing.T) *site {
	t.Helper()
	ca := newStepCA(t)
	s := newSite(t, ca.serves)
	ca.start(s.world.Resolver())
	return s
}

// Two provisioners of one step-ca, one after the other and in one state directory: each
// has an account of its own, and the pipeline renews with either.
func TestPipelineWithStepCA(t *testing.T) {
	s := stepSite(t)
	r := s.renewal(t, dropIn{directory: directory("one")}, patient())
	served := map[string]bool{s.node().ServedSHA256(): true}
	accounts := map[string]bool{}
	for _, name := range []string{"one", "two", "one"} {
		r.job.Files = map[string]string{"renewal.lua": dropIn{directory: directory(name)}.source()}
		if out := r.toTheEnd(t); out.Status != journal.Done {
			t.Fatalf("provisioner %s: %s: %s: %v", name, out.Status, out.Reason, out.Error)
		}
		leaf := r.newCertificate(t, served)
		if got := leaf.NotAfter.Sub(leaf.NotBefore); got < 89*24*time.Hour {
			t.Errorf("provisioner %s: valid for %s", name, got)
		}
		l := s.look(t)
		if len(l.CSRs) != 1 || len(l.Certificates) != 0 || len(l.TXT.History) != 2 {
			t.Errorf("provisioner %s: %d signing requests, %d certificates of the lab's CA, TXT records %+v", name, len(l.CSRs), len(l.Certificates), l.TXT.History)
		}
		r.spotless(t, l)
		accounts[r.accountAt(t, name)] = true
	}
	if len(accounts) != len(provisioners()) {
		t.Errorf("accounts: %v", accounts)
	}
}

// newCertificate checks that the node serves the certificate that the state directory
// holds, that step-ca issued it, and that it is none of those seen before.
func (r *renewal) newCertificate(t *testing.T, seen map[string]bool) *certs.Certificate {
	t.Helper()
	leafPEM, chain, err := account.Open(r.state, "").Certificate(pub, "tomcat")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := certs.Parse(leafPEM + chain)
	if err != nil {
		t.Fatal(err)
	}
	if served := r.node().ServedSHA256(); served != leaf.SHA256 || r.node().InstalledSHA256() != leaf.SHA256 || seen[leaf.SHA256] {
		t.Errorf("issued %s, installed %s, served %s; before: %v", leaf.SHA256, r.node().InstalledSHA256(), served, seen)
	}
	if leaf.Issuer != "step-ca intermediate" || !slices.Contains(leaf.Names, pub) {
		t.Errorf("%v, issued by %s", leaf.Names, leaf.Issuer)
	}
	seen[leaf.SHA256] = true
	return leaf
}

// accountAt returns the URL of the account at a provisioner.
func (r *renewal) accountAt(t *testing.T, provisioner string) string {
	t.Helper()
	url, err := account.Open(r.state, "").AccountURL(account.Holder{Directory: directory(provisioner), Email: email})
	if err != nil || !strings.HasPrefix(url, "https://"+stepCAHost+"/acme/"+provisioner+"/account/") {
		t.Errorf("provisioner %s: account %q: %v", provisioner, url, err)
	}
	return url
}

// step-ca leaves a challenge pending, with an error in it, if it finds no record or
// another one. Its words are in the log and in the reason of the wait, and it is asked
// to look again: in the same attempt if the record is soon right, else in a later one.
func TestChallengeThatStepCALeavesPending(t *testing.T) {
	s := stepSite(t)
	served := map[string]bool{s.node().ServedSHA256(): true}
	for name, c := range map[string]struct {
		instead string // the record's value; none if empty
		words   string
	}{
		"no record":      {"", "dns: " + pub + ": There was a problem with a DNS query during identifier validation"},
		"another record": {"another", "rejectedIdentifier: " + pub + ": The server will not issue certificates for the identifier"},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %t", name, late), func(t *testing.T) {
				s.reset(t)
				set := patient()
				if late {
					set.with("acme", "within", "1m")
				}
				r := s.renewal(t, dropIn{directory: directory("one")}, set)
				fix := r.spoil(t, c.instead)
				logged := r.logged("the CA has not decided yet", func() {
					if !late {
						fix()
					}
				})
				out, id := r.begin(t)
				if late {
					e := out.Error
					if out.Status != journal.Waiting || e == nil || e.Kind != problem.Timeout || e.Step != "completing_validation" || !strings.Contains(e.Server, c.words) {
						t.Fatalf("%+v: %v", out, e)
					}
					fix()
					out = r.proceed(t, out, id)
				}
				if out.Status != journal.Done {
					t.Fatalf("%s: %s: %v", out.Status, out.Reason, out.Error)
				}
				if !late && len(r.errors()) > 0 {
					t.Errorf("%v", r.errors())
				}
				if lines := logged(); len(lines) == 0 || !strings.Contains(lines[0], c.words) {
					t.Errorf("the log says %q", lines)
				}
				r.newCertificate(t, served)
				r.spotless(t, s.look(t))
			})
		}
	}
}

// spoil takes the challenge's record away once moonseal has seen it, or replaces its
// value. fix puts it back.
func (r *renewal) spoil(t *testing.T, instead string) (fix func()) {
	t.Helper()
	var right dnstest.Record
	put := func(value string) {
		r.world.DNS.Remove(right.Name, right.Type, "")
		if value == "" {
			return
		}
		rec := right
		rec.Value = value
		if _, err := r.world.DNS.Add(rec); err != nil {
			t.Error(err)
		}
	}
	r.after("waiting_dns_propagation", func() {
		for _, rec := range r.world.DNS.Records() {
			if rec.Type == "TXT" {
				right = rec
			}
		}
		put(instead)
	})
	return func() { put(right.Value) }
}

// logged calls do at each line with the message, and returns their fields.
func (r *renewal) logged(message string, do func()) (fields func() []string) {
	var out []string
	next := r.watch
	r.watch = func(rec journal.Record) {
		if next != nil {
			next(rec)
		}
		if line, ok := rec.(journal.Logged); ok && line.Message == message {
			out = append(out, string(line.Fields))
			do()
		}
	}
	return func() []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Clone(out)
	}
}
