package cucmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// identity is an installed certificate with its key, which nothing exports.
type identity struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate // what HTTPS sends after the leaf: the issuers without the root
}

func (i *identity) sha256() string {
	if i == nil {
		return ""
	}
	return fingerprint(i.cert.Raw)
}

func (i *identity) tls() *tls.Certificate {
	out := &tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}
	for _, c := range i.chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

func identityOf(t *tls.Certificate) (*identity, error) {
	key, ok := t.PrivateKey.(crypto.Signer)
	if !ok || len(t.Certificate) == 0 {
		return nil, errors.New("identity: no key or no certificate")
	}
	id := &identity{key: key}
	for i, der := range t.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			id.cert = cert
		} else {
			id.chain = append(id.chain, cert)
		}
	}
	return id, nil
}

const fiveYears = 5 * 365 * 24 * time.Hour

// selfSigned makes what an installation makes; left is what remains of it. The
// key is ECDSA, to be quick.
func selfSigned(fqdn string, now time.Time, left time.Duration) (*identity, error) {
	if left == 0 {
		left = fiveYears
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	end := now.Add(left)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: fqdn, Organization: []string{"cucmtest"}},
		DNSNames:     []string{fqdn},
		NotBefore:    end.Add(-fiveYears),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if early := now.Add(-time.Hour); template.NotBefore.After(early) {
		template.NotBefore = early
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &identity{cert: cert, key: key}, err
}

func newHostKey() (ssh.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// makeKeys keeps the spare RSA keys in stock.
func (c *Cluster) makeKeys() {
	for c.ctx.Err() == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			c.log.Error("cannot generate a key", "error", err)
			return
		}
		select {
		case c.spare <- key:
		case <-c.ctx.Done():
		}
	}
}

// newKey makes the key pair of a CSR.
func (c *Cluster) newKey(keyType string, bits int) (crypto.Signer, error) {
	if keyType == "ec" {
		curve := map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[bits]
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	if bits == 2048 {
		select {
		case key := <-c.spare:
			return key, nil
		default:
		}
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func toPEM(blockType string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
}

// parseOne reads exactly one PEM certificate.
func parseOne(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(strings.TrimSpace(text)))
	switch {
	case block == nil || block.Type != "CERTIFICATE":
		return nil, errors.New("no PEM certificate")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("more than one certificate in one text")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseAll(texts []string) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, 0, len(texts))
	for _, text := range texts {
		cert, err := parseOne(text)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	return out, nil
}
