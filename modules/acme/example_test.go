package acme_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"moonseal/modules/acme"
	"moonseal/modules/acme/acmetest"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
)

// A certificate for a key that another host holds, from a CA that takes each challenge
// as met.
func Example() {
	if err := issue(context.Background(), "www.example.com"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// to publish: TXT _acme-challenge.www.example.com.
	// issued for [www.example.com]
}

func issue(ctx context.Context, name string) error {
	ca, err := acmetest.Start(ctx, acmetest.Options{AlwaysValid: true})
	if err != nil {
		return err
	}
	defer func() { _ = ca.Close() }()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	c, err := acme.New(
		acme.CA{Directory: ca.DirectoryURL(), Email: "admin@example.com", Roots: ca.RootPEM()},
		acme.Options{Store: account.Open(dir, ""), RootCAs: ca.CertPool()})
	if err != nil {
		return err
	}
	defer c.Close()
	acct, err := c.Account(ctx)
	if err != nil {
		return err
	}
	csr, err := request(name)
	if err != nil {
		return err
	}
	order, err := c.Order(ctx, acct, acme.OrderRequest{CSR: csr})
	if err != nil {
		return err
	}
	for _, ch := range order.Challenges {
		fmt.Println("to publish: TXT", ch.Name)
	}
	if _, err := c.Validate(ctx, acct, order); err != nil {
		return err
	}
	cert, err := c.Finalize(ctx, acct, order, csr)
	if err != nil {
		return err
	}
	fmt.Println("issued for", cert.Names)
	return nil
}

// request returns a signing request, as an appliance generates it.
func request(name string) (*x509.CSR, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := stdx509.CreateCertificateRequest(rand.Reader, &stdx509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
}
