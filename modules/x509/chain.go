package x509

import (
	"bytes"
	stdx509 "crypto/x509"
	"slices"
)

// FindRoot returns the root of bundle that chain (the leaf first) ends in. A name
// only nominates, the signature decides: cross-signed roots share names. The end of the
// chain is looked at first, so that the longest path wins; among roots with one
// key, the one that lives longest.
func FindRoot(chain, bundle []*stdx509.Certificate) (*stdx509.Certificate, bool) {
	for _, c := range slices.Backward(chain) {
		var best *stdx509.Certificate
		for _, root := range bundle {
			if selfIssued(root) && issued(root, c) && (best == nil || root.NotAfter.After(best.NotAfter)) {
				best = root
			}
		}
		if best != nil {
			return best, true
		}
	}
	return nil, false
}

// selfIssued reports whether a trusted certificate is a root, and not the link from
// one key of its name to another: such a link has to name the other key (RFC 5280
// section 4.2.1.1). Its own signature says nothing more: it is trusted without.
func selfIssued(c *stdx509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && (len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}

// issued reports whether parent signed child, or is child.
func issued(parent, child *stdx509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) && (parent.Equal(child) || child.CheckSignatureFrom(parent) == nil)
}

// order returns others along the path of signatures from leaf up; what is on no
// path follows at the end, as it came.
func order(leaf *stdx509.Certificate, others []*stdx509.Certificate) []*stdx509.Certificate {
	left := append([]*stdx509.Certificate(nil), others...)
	out := make([]*stdx509.Certificate, 0, len(left))
	for at := leaf; at != nil; {
		var next *stdx509.Certificate
		for i, c := range left {
			if issued(c, at) {
				next = c
				out, left = append(out, c), append(left[:i:i], left[i+1:]...)
				break
			}
		}
		at = next
	}
	return append(out, left...)
}
