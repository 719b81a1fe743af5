package dnstest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var r53Authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$`)

// authenticated checks the signature (Signature Version 4) by computing it again.
func (r *route53) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		auth := req.Header.Get("Authorization")
		if auth == "" {
			r53Fail(rw, http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token")
			return
		}
		m := r53Authorization.FindStringSubmatch(auth)
		switch {
		case m == nil || m[4] != "route53":
			r53Fail(rw, http.StatusForbidden, "IncompleteSignature", "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters")
		case m[1] != r.world.opt.Credentials.Route53AccessKeyID:
			r53Fail(rw, http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
		case !r.signed(req, m[3], strings.Split(m[5], ";"), m[6]):
			r53Fail(rw, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. "+
				"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
		default:
			next.ServeHTTP(rw, req)
		}
	})
}

func (r *route53) signed(req *http.Request, region string, headers []string, signature string) bool {
	at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	again := req.Clone(req.Context())
	again.Header = http.Header{}
	for _, h := range headers {
		if v := req.Header.Values(h); len(v) > 0 {
			again.Header[http.CanonicalHeaderKey(h)] = v
		}
	}
	again.URL.Scheme, again.URL.Host = "https", req.Host
	sum := sha256.Sum256(body)
	c := r.world.opt.Credentials
	creds := aws.Credentials{AccessKeyID: c.Route53AccessKeyID, SecretAccessKey: c.Route53SecretKey}
	if v4.NewSigner().SignHTTP(req.Context(), creds, again, hex.EncodeToString(sum[:]), "route53", region, at) != nil {
		return false
	}
	m := r53Authorization.FindStringSubmatch(again.Header.Get("Authorization"))
	return m != nil && hmac.Equal([]byte(m[6]), []byte(signature))
}
