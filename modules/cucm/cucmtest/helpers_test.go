package cucmtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	pub  = "cucm01-pub.automate.builders"
	sub  = "cucm02-sub.automate.builders"
	imp  = "imp01.automate.builders"
	user = "admin"
	pass = "right"
	base = "/platformcom/api/v1/certmgr/config/"
)

func options() Options {
	return Options{
		Domain: "automate.builders",
		Nodes: []NodeOptions{
			{Host: "cucm01-pub"},
			{Host: "cucm02-sub"},
			{Host: "imp01", Role: Presence},
		},
		Username: user, Password: pass,
		ReadOnlyUsername: "viewer", ReadOnlyPassword: "look",
	}
}

// start runs a cluster; change may be nil.
func start(t testing.TB, change func(*Options)) *Cluster {
	t.Helper()
	o := options()
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ca is a CA of two levels.
type ca struct {
	root, issuer       *x509.Certificate
	rootPEM, issuerPEM string
	key                crypto.Signer
	rootKey            crypto.Signer
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func caTemplate(name string, notBefore time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notBefore.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func newCA(t testing.TB) *ca {
	t.Helper()
	rootKey, key := newECKey(t), newECKey(t)
	born := time.Now().AddDate(-1, 0, 0)
	rt := caTemplate("Test Root", born)
	root := certify(t, rt, rt, rootKey.Public(), rootKey)
	issuer := certify(t, caTemplate("Test Issuer", born), root, key.Public(), rootKey)
	return &ca{
		root: root, issuer: issuer, key: key, rootKey: rootKey,
		rootPEM: toPEM("CERTIFICATE", root.Raw), issuerPEM: toPEM("CERTIFICATE", issuer.Raw),
	}
}

// sign issues a certificate for a CSR; change may be nil.
func (a *ca) sign(t testing.TB, csrPEM string, change func(*x509.Certificate)) string {
	t.Helper()
	request := parseCSR(t, csrPEM)
	template := &x509.Certificate{
		Subject: request.Subject, DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	return toPEM("CERTIFICATE", certify(t, template, a.issuer, request.PublicKey, a.key).Raw)
}

func parseCSR(t testing.TB, text string) *x509.CertificateRequest {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	return request
}

func shaOf(t testing.TB, pemText string) string {
	t.Helper()
	cert, err := parseOne(pemText)
	if err != nil {
		t.Fatal(err)
	}
	return fingerprint(cert.Raw)
}

// reply is an answer of the REST API.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
	list   []any
}

func (r reply) messages() string {
	parts, _ := r.body["messages"].([]any)
	return fmt.Sprint(parts...)
}

func (r reply) str(key string) string { s, _ := r.body[key].(string); return s }

func httpClient(n *Node) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: n.FQDN()}, //nolint:gosec // the certificate is looked at apart
		},
	}
}

// as sends a request with a user's password; body may be nil or any JSON value.
func as(ctx context.Context, n *Node, user, password, method, path string, body any) (reply, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+n.RESTAddr()+path, in)
	if err != nil {
		return reply{}, err
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := httpClient(n).Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: response.StatusCode, header: response.Header, text: string(text)}
	if json.Unmarshal(text, &out.body) != nil {
		_ = json.Unmarshal(text, &out.list)
	}
	return out, nil
}

// call is as for the administrator, and must get an answer.
func call(t testing.TB, n *Node, method, path string, body any) reply {
	t.Helper()
	r, err := as(t.Context(), n, user, pass, method, base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantStatus(t testing.TB, r reply, status int, words string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.messages(), words) {
		t.Fatalf("status %d, body %s; want %d with %q", r.status, r.text, status, words)
	}
	if status < 400 {
		return
	}
	if key, _ := r.body["key"].(float64); int(key) != status || !strings.HasPrefix(r.str("trackingId"), "UC_") {
		t.Fatalf("error body is %s", r.text)
	}
}

// generate asks for a CSR with an EC key, which is quick.
func generate(t testing.TB, n *Node, change func(map[string]any)) string {
	t.Helper()
	body := map[string]any{"service": "tomcat", "distribution": "this-server", "commonName": n.FQDN(), "keyType": "ec"}
	if change != nil {
		change(body)
	}
	r := call(t, n, "POST", "csr", body)
	wantStatus(t, r, 201, "")
	return r.str("csr")
}

func uploadTrust(t testing.TB, n *Node, certs ...string) reply {
	t.Helper()
	return call(t, n, "POST", "trust/certificates", map[string]any{"service": []string{"tomcat"}, "certificates": certs})
}

func uploadIdentity(t testing.TB, n *Node, certs ...string) reply {
	t.Helper()
	return call(t, n, "POST", "identity/certificates", map[string]any{"service": "tomcat", "certificates": certs})
}

// live is the fingerprint that a handshake shows.
func live(n *Node) (string, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: n.FQDN()}} //nolint:gosec // only the fingerprint is of interest
	conn, err := d.Dial("tcp", n.RESTAddr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return fingerprint(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw), nil
}

func wantLive(t testing.TB, n *Node, want string) {
	t.Helper()
	got, err := live(n)
	if err != nil {
		t.Fatal(err)
	}
	if got != want || n.ServedSHA256() != want {
		t.Fatalf("%s serves %s and says %s, want %s", n.FQDN(), got, n.ServedSHA256(), want)
	}
}

// renew uploads trust and a fresh certificate; the node still serves the old.
func renew(t testing.TB, n *Node, a *ca) (sha string) {
	t.Helper()
	cert := a.sign(t, generate(t, n, nil), nil)
	wantStatus(t, uploadTrust(t, n, a.rootPEM, a.issuerPEM), 201, "")
	wantStatus(t, uploadIdentity(t, n, cert), 200, "")
	return shaOf(t, cert)
}
