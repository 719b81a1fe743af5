package cucm

import (
	"context"
	stdx509 "crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

func (c *Client) get(doing, path, service string) call {
	r := call{doing: doing, method: http.MethodGet, path: path}
	if service != "" {
		r.query = url.Values{"service": {service}}
	}
	return r
}

// Identity returns the installed certificate of a service, which may not be served yet.
// NotFound if there is none.
func (c *Client) Identity(ctx context.Context, service string) (*x509.Certificate, error) {
	doing := "reading the certificate of " + service
	body, err := c.read(ctx, c.get(doing, c.o.Paths.Identity, service))
	if kind(err) == problem.NotFound {
		// Not all releases are known to have this call; all have the snapshot.
		return c.identityInSnapshot(ctx, service, err)
	}
	if err != nil {
		return nil, err
	}
	texts, err := pemTexts(body, certificates, service)
	if err != nil {
		return nil, c.failed(doing, err)
	}
	if len(texts) == 0 {
		return nil, c.failed(doing, &problem.Error{Kind: problem.NotFound, Message: "the node has none"})
	}
	cert, err := x509.Parse(strings.Join(texts, "\n"))
	if err != nil {
		return nil, c.failed(doing, err)
	}
	return cert, nil
}

func (c *Client) identityInSnapshot(ctx context.Context, service string, first error) (*x509.Certificate, error) {
	snapshot, err := c.Snapshot(ctx)
	if kind(err) == problem.NotFound {
		return nil, first
	}
	if err != nil {
		return nil, err
	}
	for _, id := range snapshot.Identities {
		if id.Service == service {
			return &id.Certificate, nil
		}
	}
	return nil, first
}

// Has reports whether cert is the installed certificate of a service, by its
// fingerprint.
func (c *Client) Has(ctx context.Context, service string, cert *x509.Certificate) (bool, error) {
	installed, err := c.Identity(ctx, service)
	if kind(err) == problem.NotFound {
		return false, nil
	}
	return err == nil && installed.SHA256 == cert.SHA256, err
}

// Trust lists the trust store of a service. A certificate that crypto/x509
// cannot read is left out, and logged.
func (c *Client) Trust(ctx context.Context, service string) ([]*x509.Certificate, error) {
	doing := "reading the trust store of " + service
	body, err := c.read(ctx, c.get(doing, c.o.Paths.Trust, trustService(service)))
	if err != nil {
		return nil, err
	}
	texts, err := pemTexts(body, certificates, trustService(service))
	if err != nil {
		return nil, c.failed(doing, err)
	}
	out := make([]*x509.Certificate, 0, len(texts))
	for _, text := range texts {
		certs, err := x509.ParseAll(text)
		if err != nil {
			c.o.Log.Warn("a trusted certificate cannot be read", "host", c.o.Host, "service", service, "error", err)
		}
		out = append(out, all(certs)...)
	}
	return out, nil
}

func all(certs []*stdx509.Certificate) []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(certs))
	for _, cert := range certs {
		out = append(out, x509.From(cert))
	}
	return out
}

// trustService names the service whose trust store another one uses: the ECDSA
// certificate of a service has no store of its own.
func trustService(service string) string { return strings.TrimSuffix(service, "-ECDSA") }

// Snapshot is all certificates of a node at one moment.
type Snapshot struct {
	Server     string             `lua:"server" doc:"what the node calls itself"`
	Tracking   string             `lua:"tracking" doc:"the appliance's tracking id of the answer"`
	Identities []SnapshotIdentity `lua:"identities" doc:"the services' own certificates"`
	Trusts     []SnapshotTrust    `lua:"trusts" doc:"the trust stores"`
}

// SnapshotIdentity is the certificate of one service.
type SnapshotIdentity struct {
	Service     string           `lua:"service" doc:"such as tomcat"`
	Certificate x509.Certificate `lua:"certificate" doc:"the installed certificate"`
	CSR         string           `lua:"csr" doc:"the pending signing request, PEM; empty if there is none"`
}

// SnapshotTrust is the trust store of one service.
type SnapshotTrust struct {
	Service string         `lua:"service" doc:"such as tomcat"`
	Files   []SnapshotFile `lua:"files" doc:"its certificates"`
}

// SnapshotFile is one trusted certificate.
type SnapshotFile struct {
	Filename    string           `lua:"filename" doc:"the file's name on the node"`
	Certificate x509.Certificate `lua:"certificate" doc:"the certificate"`
}

// Snapshot reads all certificates of the node. Those that cannot be read are
// left out, and logged.
func (c *Client) Snapshot(ctx context.Context) (*Snapshot, error) {
	const doing = "reading the snapshot"
	body, err := c.read(ctx, c.get(doing, c.o.Paths.Snapshot, ""))
	if err != nil {
		return nil, err
	}
	var doc snapshot
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, c.failed(doing, notJSON(body))
	}
	out := &Snapshot{Server: words(doc.Server), Tracking: doc.TrackingID, Identities: []SnapshotIdentity{}, Trusts: []SnapshotTrust{}}
	for _, id := range doc.Identities {
		if cert := c.readable(id.Service, id.Certificate); cert != nil {
			out.Identities = append(out.Identities, SnapshotIdentity{id.Service, *cert, id.CSR})
		}
	}
	for _, store := range doc.Trusts {
		t := SnapshotTrust{Service: store.Service, Files: []SnapshotFile{}}
		for _, file := range store.Data {
			if cert := c.readable(file.Filename, file.Certificate); cert != nil {
				t.Files = append(t.Files, SnapshotFile{file.Filename, *cert})
			}
		}
		out.Trusts = append(out.Trusts, t)
	}
	return out, nil
}

// snapshot is the answer of snapshot/server. server is a name, or an object.
type snapshot struct {
	TrackingID string          `json:"trackingId"`
	Server     json.RawMessage `json:"server"`
	Identities []struct {
		Service     string `json:"service"`
		Certificate string `json:"certificate"`
		CSR         string `json:"csr"`
	} `json:"identities"`
	Trusts []struct {
		Service string `json:"service"`
		Data    []struct {
			Filename    string `json:"filename"`
			Certificate string `json:"certificate"`
		} `json:"certificate_data"`
	} `json:"trusts"`
}

func (c *Client) readable(name, text string) *x509.Certificate {
	cert, err := x509.Parse(text)
	if err != nil {
		c.o.Log.Warn("a certificate cannot be read", "host", c.o.Host, "name", name, "error", err)
		return nil
	}
	return cert
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
