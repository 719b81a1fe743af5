package lab_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	stdx509 "crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/runtime/atomicfile"
	"moonseal/runtime/journal/journaltest"
)

// byHand is the least that a client can do which loses nothing: each request of
// RFC 8555 once, signed without a library, over one warm connection with its
// nonces, with as many synced commits and files as a journaled run makes.
type byHand struct {
	b       *testing.B
	http    *http.Client
	key     *ecdsa.PrivateKey
	kid     string
	order   string // URL that orders go to
	nonces  []string
	floor   *journaltest.Floor
	commits []string // what is still to be committed for this certificate
	dir     string   // of the certificate's files
	posts   int
}

func newByHand(b *testing.B, ca *acmetest.CA, e *engine) *byHand {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	transport := &http.Transport{TLSClientConfig: clientTLS(ca)}
	b.Cleanup(transport.CloseIdleConnections)
	h := &byHand{b: b, http: &http.Client{Transport: transport}, dir: b.TempDir()}
	text, _, err := e.account.AccountKey(holderOf(ca), func() ([]byte, error) { return nil, errors.New("no account") })
	must(err)
	block, _ := pem.Decode(text)
	h.key, err = stdx509.ParseECPrivateKey(block.Bytes)
	must(err)
	h.kid, err = e.account.AccountURL(holderOf(ca))
	must(err)
	var dir struct{ NewNonce, NewOrder string }
	must(json.Unmarshal(h.do(http.MethodGet, ca.DirectoryURL(), nil).body, &dir))
	h.order = dir.NewOrder
	h.nonces = append(h.nonces, h.do(http.MethodHead, dir.NewNonce, nil).header.Get("Replay-Nonce"))
	h.floor, err = journaltest.Open(b.Context(), b.TempDir())
	must(err)
	b.Cleanup(func() { _ = h.floor.Close() })
	return h
}

type answer struct {
	header http.Header
	body   []byte
}

func (h *byHand) do(method, url string, body []byte) answer {
	h.b.Helper()
	req, err := http.NewRequestWithContext(h.b.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		h.b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jose+json")
	res, err := h.http.Do(req)
	if err != nil {
		h.b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= http.StatusBadRequest {
		h.b.Fatal(url, res.Status, string(got), err)
	}
	return answer{res.Header, got}
}

// post sends one signed request (section 6.2); payload "" is a POST-as-GET. What
// the answer holds goes into into, unless that is nil.
func (h *byHand) post(url, payload string, into any) answer {
	h.b.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	nonce := h.nonces[len(h.nonces)-1]
	h.nonces = h.nonces[:len(h.nonces)-1]
	protected := encode(fmt.Appendf(nil, `{"alg":"ES256","kid":%q,"nonce":%q,"url":%q}`, h.kid, nonce, url))
	content := encode([]byte(payload))
	digest := sha256.Sum256([]byte(protected + "." + content))
	r, s, err := ecdsa.Sign(rand.Reader, h.key, digest[:])
	if err != nil {
		h.b.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	got := h.do(http.MethodPost, url, fmt.Appendf(nil, `{"protected":%q,"payload":%q,"signature":%q}`, protected, content, encode(signature[:])))
	h.posts++
	h.nonces = append(h.nonces, got.header.Get("Replay-Nonce"))
	if into != nil {
		if err := json.Unmarshal(got.body, into); err != nil {
			h.b.Fatal(err)
		}
	}
	return got
}

// commit makes the next of the synced commits.
func (h *byHand) commit() {
	h.b.Helper()
	if len(h.commits) == 0 {
		return
	}
	if err := h.floor.Commit(h.commits[0]); err != nil {
		h.b.Fatal(err)
	}
	h.commits = h.commits[1:]
}

// pause is between two polls: about what Pebble takes to decide.
const pause = 500 * time.Microsecond

// poll asks for url until its status is neither pending nor processing.
func (h *byHand) poll(url string, into *orderState) {
	h.b.Helper()
	for {
		h.post(url, "", into)
		switch into.Status {
		case "pending", "processing":
			wait(h.b.Context(), pause)
		case "valid", "ready":
			return
		default:
			h.b.Fatal(url, into.Status)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type orderState struct {
	Status, Finalize, Certificate string
	Authorizations                []string
}

// issue gets one certificate, from the order to its files, with the commits that
// a run makes: before and after each step's change.
func (h *byHand) issue(name string, csr []byte, commits []string) {
	h.b.Helper()
	h.commits, h.posts = commits, 0
	h.commit()
	var order orderState
	url := h.post(h.order, fmt.Sprintf(`{"identifiers":[{"type":"dns","value":%q}]}`, name), &order).header.Get("Location")
	fresh := order.Status == "pending"
	var authz struct{ Challenges []struct{ Type, URL string } }
	if fresh {
		h.post(order.Authorizations[0], "", &authz)
	}
	h.commit()
	if fresh {
		h.commit()
		for _, ch := range authz.Challenges {
			if ch.Type == "dns-01" {
				h.post(ch.URL, "{}", nil)
			}
		}
		var state orderState
		h.poll(order.Authorizations[0], &state)
	}
	h.commit()
	h.commit()
	h.post(order.Finalize, fmt.Sprintf(`{"csr":%q}`, base64.RawURLEncoding.EncodeToString(csr)), &order)
	if order.Status != "valid" {
		h.poll(url, &order)
	}
	chain := h.post(order.Certificate, "", nil).body
	for _, file := range []string{"chain.pem", "certificate.pem"} {
		if err := atomicfile.WriteFile(filepath.Join(h.dir, file), chain); err != nil {
			h.b.Fatal(err)
		}
	}
	for len(h.commits) > 0 {
		h.commit()
	}
}
