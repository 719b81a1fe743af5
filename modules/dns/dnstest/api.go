package dnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"
)

// apiServer is one provider's API on a loopback port.
type apiServer struct{ http *http.Server }

func (a *apiServer) close() { _ = a.http.Close() }

func (w *World) startAPIs() error {
	ca, err := newAuthority(w.opt.Issue)
	if err != nil {
		return err
	}
	w.ca = ca
	for _, api := range []struct {
		host    string
		name    func(*http.Request) string
		handler http.Handler
	}{
		{CloudflareHost, restCall("dns.cloudflare", "/dns_records"), newCloudflare(w)},
		{DigitalOceanHost, restCall("dns.digitalocean", "/records"), newDigitalOcean(w)},
		{Route53Host, route53Call, newRoute53(w)},
		{CloudflareDoH, dohCall, http.HandlerFunc(w.serveDoH)},
		{GoogleDoH, dohCall, http.HandlerFunc(w.serveDoH)},
	} {
		cert, err := ca.issue(api.host)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		srv := &apiServer{http: &http.Server{
			Handler:           w.opt.Faults.Handler(api.name, api.handler),
			ReadHeaderTimeout: 10 * time.Second,
			TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
			ErrorLog:          log.New(io.Discard, "", 0), // clients that go away are what tests are about
		}}
		w.apis = append(w.apis, srv)
		w.hosts[api.host+":443"] = l.Addr().String()
		w.owned.Go(func() {
			if err := srv.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
				_ = l.Close()
			}
		})
	}
	return nil
}

// authority issues the APIs' certificates.
type authority struct {
	issue func(host string) (tls.Certificate, error)
	pool  *x509.CertPool // nil if another CA issues
	pem   string
}

func newAuthority(issue func(string) (tls.Certificate, error)) (*authority, error) {
	if issue != nil {
		return &authority{issue: issue}, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := certificate("dnstest CA")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a := &authority{pool: x509.NewCertPool(), pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	a.pool.AddCert(root)
	a.issue = func(host string) (tls.Certificate, error) {
		leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		leaf := certificate(host)
		leaf.DNSNames, leaf.ExtKeyUsage = []string{host}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), key)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}, err
	}
	return a, nil
}

// certificate is valid in real time: TLS clients ask no injected clock.
func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // rand.Reader does not fail
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
	}
}

// restCall names the calls of a provider whose records stand below a path of that
// name, by the request's method.
func restCall(provider, records string) func(*http.Request) string {
	return func(r *http.Request) string {
		switch {
		case !strings.Contains(r.URL.Path, records):
			return provider + ".zones"
		case r.Method == http.MethodGet:
			return provider + ".list"
		case r.Method == http.MethodDelete:
			return provider + ".delete"
		default:
			return provider + ".create"
		}
	}
}
