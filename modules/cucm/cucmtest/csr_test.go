package cucmtest

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"maps"
	"slices"
	"testing"
)

func TestCSRNames(t *testing.T) {
	c := start(t, nil)
	all := []string{"automate.builders", pub, sub, imp}
	slices.Sort(all)
	for _, test := range []struct {
		name string
		body map[string]any
		cn   string
		sans []string
	}{
		{"the least", map[string]any{}, pub, []string{pub}},
		{"more names", map[string]any{"altNames": []string{"X.example.com", "a.example.com", pub}}, pub, []string{"a.example.com", pub, "x.example.com"}},
		{"another common name", map[string]any{"commonName": "uc.example.com"}, "uc.example.com", []string{pub}},
		{"the cluster", map[string]any{"distribution": "multi-server"}, "cucm01-pub-ms.automate.builders", all},
		{"the cluster by a node's name", map[string]any{"distribution": "multi-server", "commonName": pub}, pub, all},
	} {
		body := map[string]any{"service": "tomcat", "distribution": "this-server", "keyType": "ec"}
		maps.Copy(body, test.body)
		r := call(t, c.Node(pub), "POST", "csr", body)
		wantStatus(t, r, 201, "")
		request := parseCSR(t, r.str("csr"))
		if request.Subject.CommonName != test.cn || !slices.Equal(request.DNSNames, test.sans) {
			t.Errorf("%s: CN %s, SANs %v", test.name, request.Subject.CommonName, request.DNSNames)
		}
	}
}

func TestCSRKeysAndUsage(t *testing.T) {
	n := start(t, func(o *Options) { o.SpareKeys = 1 }).Node(pub)
	for _, test := range []struct {
		service, keyType string
		length           int
		hash             string
		want             string
		bits             int
	}{
		{"tomcat", "", 0, "", "SHA256-RSA", 2048},
		{"tomcat", "ec", 0, "", "ECDSA-SHA256", 256},
		{"tomcat-ECDSA", "", 384, "sha384", "ECDSA-SHA384", 384},
		{"tomcat", "ec", 521, "sha512", "ECDSA-SHA512", 521},
	} {
		body := map[string]any{"service": test.service, "distribution": "this-server"}
		if test.keyType != "" {
			body["keyType"] = test.keyType
		}
		if test.length != 0 {
			body["keyLength"] = test.length
		}
		if test.hash != "" {
			body["hashAlgorithm"] = test.hash
		}
		r := call(t, n, "POST", "csr", body)
		wantStatus(t, r, 201, "")
		request := parseCSR(t, r.str("csr"))
		bits := 0
		switch key := request.PublicKey.(type) {
		case *rsa.PublicKey:
			bits = key.N.BitLen()
		case *ecdsa.PublicKey:
			bits = key.Params().BitSize
		}
		if request.SignatureAlgorithm.String() != test.want || bits != test.bits {
			t.Errorf("%+v: %s, %d bits", test, request.SignatureAlgorithm, bits)
		}
		var usages []asn1.ObjectIdentifier
		for _, e := range request.Extensions {
			if e.Id.String() == "2.5.29.37" {
				if _, err := asn1.Unmarshal(e.Value, &usages); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(usages) != 2 || usages[0].String() != "1.3.6.1.5.5.7.3.1" || usages[1].String() != "1.3.6.1.5.5.7.3.2" {
			t.Errorf("extended key usages %v", usages)
		}
	}
}

func TestBadCSRsAreRefused(t *testing.T) {
	c := start(t, nil)
	for words, change := range map[string]map[string]any{
		"Invalid service":               {"service": "nginx"},
		"Invalid distribution":          {"distribution": "everywhere"},
		"Multi-server certificates are": {"service": "CAPF", "distribution": "multi-server"},
		"Invalid keyType":               {"keyType": "dsa"},
		"Invalid keyType for":           {"service": "tomcat-ECDSA", "keyType": "rsa"},
		"Invalid keyLength":             {"keyType": "rsa", "keyLength": 1024},
		"Invalid hashAlgorithm":         {"hashAlgorithm": "md5"},
		"Invalid altNames":              {"altNames": []string{"*.example.com"}},
	} {
		body := map[string]any{"service": "tomcat", "distribution": "this-server", "keyType": "ec"}
		maps.Copy(body, change)
		wantStatus(t, call(t, c.Node(pub), "POST", "csr", body), 400, words)
	}
	if l := c.Ledger(); len(l.CSRs) != 0 {
		t.Errorf("CSRs %+v", l.CSRs)
	}
}

func TestWordForTheClusterIsSettable(t *testing.T) {
	c := start(t, func(o *Options) { o.Behavior.MultiServer = "multi-server(SAN)" })
	body := map[string]any{"service": "tomcat", "distribution": "multi-server", "keyType": "ec"}
	wantStatus(t, call(t, c.Node(pub), "POST", "csr", body), 400, "Invalid distribution")
	body["distribution"] = "multi-server(SAN)"
	wantStatus(t, call(t, c.Node(pub), "POST", "csr", body), 201, "")
}

func TestOnePendingCSRForEachService(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	first := generate(t, n, nil)
	if got := call(t, n, "GET", "csr?service=tomcat", nil); got.str("csr") != first || n.PendingCSR("tomcat") != first {
		t.Fatalf("pending: %s", got.text)
	}
	second := generate(t, n, nil)
	other := generate(t, n, func(b map[string]any) { b["service"] = "tomcat-ECDSA" })
	if second == first || n.PendingCSR("tomcat") != second || n.PendingCSR("tomcat-ECDSA") != other {
		t.Fatal("a new CSR must take the old one's place and leave other services alone")
	}
	if c.Node(sub).PendingCSR("tomcat") != "" {
		t.Fatal("a CSR is one node's")
	}
}
