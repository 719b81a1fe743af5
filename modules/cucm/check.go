package cucm

import (
	stdx509 "crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// check finds out, before anything is sent, whether the appliance would refuse
// cert for a pending request. roots is where a chain's root is sought that cert
// does not bring. It returns the chain without the leaf, root last, and warnings.
//
// An upload consumes the pending request, and an identity certificate cannot be
// rolled back, so all that can be checked is checked here.
func check(cert *x509.Certificate, csr *x509.CSR, roots []*x509.Certificate, now time.Time) (chain []*x509.Certificate, warnings []string, err error) {
	leaf, err := cert.Leaf()
	if err != nil {
		return nil, nil, err
	}
	if err := checkDates(leaf, "the certificate", now); err != nil {
		return nil, nil, err
	}
	for _, name := range append(slices.Clone(leaf.DNSNames), leaf.Subject.CommonName) {
		if strings.Contains(name, "*") {
			return nil, nil, mismatch("the certificate is a wildcard ("+name+"), which the appliance does not take", "order it for the names in the signing request")
		}
	}
	if csr == nil {
		return nil, nil, mismatch("no signing request is pending, so the node has no key for the certificate",
			"an upload consumed it, or it was deleted: a new run generates a fresh CSR")
	}
	if err := cert.Fits(csr); err != nil {
		hint := "order the certificate for exactly the names in the signing request"
		if cert.KeySHA256 != csr.KeySHA256 {
			hint = "another CSR was generated since: order a certificate for the one that is pending now"
		}
		return nil, nil, mismatch(problem.From(err).Message, hint)
	}
	chain, err = checkChain(cert, leaf, roots, now)
	if err != nil {
		return nil, nil, err
	}
	if csr.ClientAuth && !forClients(leaf) {
		warnings = append(warnings, "the signing request asks for clientAuth and the certificate lacks it: public CAs no longer issue it (Cisco field notice FN74345); "+
			"mutual TLS from this node may break, and some releases refuse the upload")
	}
	return chain, warnings, nil
}

// ahead is how far a CA's clock may be ahead of this machine's: what it issues
// begins then, and is waited for.
const ahead = 5 * time.Minute

func checkDates(cert *stdx509.Certificate, what string, now time.Time) error {
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(cert.NotAfter):
		return mismatch(fmt.Sprintf("%s expired on %s", what, cert.NotAfter.UTC().Format(day)), "a new run orders a new one")
	case now.Before(cert.NotBefore) && cert.NotBefore.Sub(now) <= ahead:
		return &problem.Error{
			Kind: problem.Unavailable, Work: problem.NotDone, RetryAfter: cert.NotBefore,
			Message: fmt.Sprintf("%s is not valid before %s, in %s", what, cert.NotBefore.UTC().Format(day), cert.NotBefore.Sub(now).Round(time.Millisecond)),
			Hint:    "this machine's clock is behind the CA's: let NTP keep it",
		}
	case now.Before(cert.NotBefore):
		return mismatch(fmt.Sprintf("%s is not valid before %s", what, cert.NotBefore.UTC().Format(day)), "check this machine's clock")
	}
	return nil
}

// checkChain verifies by signature the path from the leaf over the
// intermediates to a root.
func checkChain(cert *x509.Certificate, leaf *stdx509.Certificate, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	path := []*stdx509.Certificate{leaf}
	for _, text := range cert.Intermediates {
		more, err := x509.ParseAll(text)
		if err != nil {
			return nil, err
		}
		path = append(path, more...)
	}
	root, err := findRoot(cert, path, roots)
	if err != nil {
		return nil, err
	}
	if root != nil {
		path = upTo(path, root)
	}
	out := make([]*x509.Certificate, 0, len(path))
	for i, c := range path[1:] {
		if err := path[i].CheckSignatureFrom(c); err != nil {
			return nil, mismatch(fmt.Sprintf("the chain is broken: %q did not sign %q: %v", x509.From(c).Subject, x509.From(path[i]).Subject, err),
				"the chain must lead from the certificate over its intermediates to the root")
		}
		if err := checkDates(c, "the issuer "+x509.From(c).Subject, now); err != nil {
			return nil, err
		}
		out = append(out, x509.From(c))
	}
	if len(out) == 0 || !out[len(out)-1].SelfSigned {
		return nil, mismatch("the certificate's root is not known", "ACME leaves the root out: configure the CA's root, or put it into the node's trust store")
	}
	return out, nil
}

// upTo returns path as far as root signed it, and root. A CA may append a
// cross-signed twin of its root, which leads to another one.
func upTo(path []*stdx509.Certificate, root *stdx509.Certificate) []*stdx509.Certificate {
	for i := len(path) - 1; i > 0; i-- {
		if path[i].Equal(root) {
			return path[:i+1]
		}
		if path[i].CheckSignatureFrom(root) == nil {
			return append(path[:i+1], root)
		}
	}
	return append(path, root)
}

// findRoot returns the root that cert brings, else one of roots that signed the end of
// path; nil if there is none.
func findRoot(cert *x509.Certificate, path []*stdx509.Certificate, roots []*x509.Certificate) (*stdx509.Certificate, error) {
	if strings.TrimSpace(cert.Root) != "" {
		certs, err := x509.ParseAll(cert.Root)
		if err != nil || len(certs) != 1 {
			return nil, mismatch("the certificate's root cannot be read", "")
		}
		return certs[0], nil
	}
	var bundle []*stdx509.Certificate
	for _, r := range roots {
		if leaf, err := r.Leaf(); err == nil {
			bundle = append(bundle, leaf)
		}
	}
	root, _ := x509.FindRoot(path[len(path)-1:], bundle)
	return root, nil
}

func forClients(cert *stdx509.Certificate) bool {
	return len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, stdx509.ExtKeyUsageClientAuth) || slices.Contains(cert.ExtKeyUsage, stdx509.ExtKeyUsageAny)
}

func mismatch(message, hint string) error {
	return &problem.Error{Kind: problem.Mismatch, Message: message, Hint: hint, Work: problem.NotDone}
}
