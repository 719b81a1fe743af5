package cucm

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// CSRRequest says what signing request a node is to generate. The node keeps the key.
type CSRRequest struct {
	Service        string   `lua:"service,optional" default:"tomcat" doc:"whose certificate it is"`
	Distribution   string   `lua:"distribution,optional" default:"this-server" enum:"this-server multi-server" doc:"multi-server for one certificate of the whole cluster"`
	CommonName     string   `lua:"common_name,optional" doc:"the node's own name if empty"`
	AltNames       []string `lua:"alt_names,optional" doc:"further DNS names"`
	Members        []string `lua:"members,optional" doc:"full host names of the cluster's other nodes: a multi-server request names them too"`
	Names          []string `lua:"names,optional" doc:"names that the node may add by itself; a request with any other is a mismatch"`
	KeyType        string   `lua:"key_type,optional" enum:"rsa ec" doc:"ec for an ECDSA service, else rsa, if empty"`
	KeyLength      int      `lua:"key_length,optional" doc:"in bits; 2048 for rsa, 256 for ec, if 0"`
	Hash           string   `lua:"hash,optional" default:"sha256" enum:"sha256 sha384 sha512" doc:"of the request's signature"`
	ReplacePending bool     `lua:"replace_pending,optional" doc:"overwrite a pending signing request that is not ours"`

	// Ours are fingerprints of requests that may be overwritten: SHA-256, in
	// lower-case hex, over a request or over its key.
	Ours []string
}

// CSRLook is what was pending before a signing request was generated.
type CSRLook struct {
	Pending string `json:"pending"` // the pending request's SHA-256; empty if there was none
}

// PendingCSR returns the pending signing request of a service, nil if there is none.
func (c *Client) PendingCSR(ctx context.Context, service string) (*x509.CSR, error) {
	doing := "reading the pending CSR of " + service
	body, err := c.read(ctx, c.get(doing, c.o.Paths.CSR, service))
	if noCSR(err) {
		return nil, nil //nolint:nilnil // nil is the documented "none"
	}
	if err != nil {
		return nil, err
	}
	csr, err := c.parseCSR(body, service)
	if err != nil {
		return nil, c.failed(doing, err)
	}
	return csr, nil
}

// noCSR reports whether err means that nothing is pending. Cisco does not document the
// words: a 404 of the API itself counts, one of a web page does not.
func noCSR(err error) bool {
	if err == nil {
		return false
	}
	p := problem.From(err)
	words := strings.ToLower(p.Server)
	return p.Status == http.StatusNotFound && p.Tracking != "" || judged(p.Status) && strings.Contains(words, "csr") && strings.Contains(words, "not exist")
}

// parseCSR returns the request in an answer; nil if it holds none.
func (c *Client) parseCSR(body []byte, service string) (*x509.CSR, error) {
	texts, err := pemTexts(body, requests, service)
	if err != nil || len(texts) == 0 {
		return nil, err
	}
	csr, err := x509.ParseCSR(texts[0])
	if err != nil {
		return nil, err
	}
	csr.Host, csr.Service = c.o.Host, service
	return csr, nil
}

// LookCSR checks a request and reads what is pending. A pending request that is
// not ours is a Conflict: the new one would overwrite it, and its key.
func (c *Client) LookCSR(ctx context.Context, r CSRRequest) (CSRLook, error) {
	r = r.withDefaults(c.o.Host)
	if err := c.mayChange(r.Service); err != nil {
		return CSRLook{}, err
	}
	if err := r.check(); err != nil {
		return CSRLook{}, c.failed("", err)
	}
	pending, err := c.PendingCSR(ctx, r.Service)
	if err != nil || pending == nil {
		return CSRLook{}, err
	}
	if !r.ReplacePending && !slices.Contains(r.Ours, pending.SHA256) && !slices.Contains(r.Ours, pending.KeySHA256) {
		return CSRLook{}, c.failed("generating a CSR", &problem.Error{
			Kind: problem.Conflict,
			Message: "another signing request of " + r.Service + " is pending (sha256 " + pending.SHA256 + ", names " + strings.Join(pending.Names, " ") +
				"); a new one would overwrite its key",
			Hint: "its certificate may still be expected; if it is not, set replace_pending = true for the CSR",
		})
	}
	return CSRLook{Pending: pending.SHA256}, nil
}

// GenerateCSR makes the node generate a key and a signing request, which
// overwrites a pending one.
func (c *Client) GenerateCSR(ctx context.Context, r CSRRequest) (*x509.CSR, error) {
	r = r.withDefaults(c.o.Host)
	doing := "generating a CSR for " + r.Service
	body, err := c.read(ctx, call{doing: doing, method: http.MethodPost, path: c.o.Paths.CSR, in: r.body()})
	if err != nil {
		return nil, err
	}
	csr, err := c.parseCSR(body, r.Service)
	if err == nil && csr == nil {
		// The answer holds none: it is pending now.
		csr, err = c.PendingCSR(ctx, r.Service)
	}
	if err == nil && csr == nil {
		err = &problem.Error{Kind: problem.Unavailable, Message: "the node accepted the request and has none pending", Work: problem.Unknown}
	}
	if err != nil {
		p := *problem.From(err)
		p.Work = problem.Unknown
		return nil, c.failed(doing, &p)
	}
	if name := strings.ToLower(csr.CommonName); name != "" && !slices.Contains(csr.Names, name) {
		c.o.Log.Warn("the CSR's common name is not among its names: a CA that adds it makes the appliance refuse the certificate; set common_name to a node's name",
			"host", c.o.Host, "service", r.Service, "common_name", csr.CommonName, "names", csr.Names)
	}
	return csr, nil
}

// ProbeCSR finds out whether a lost GenerateCSR has happened: it has if another request
// is pending than look saw.
func (c *Client) ProbeCSR(ctx context.Context, r CSRRequest, look CSRLook) (*x509.CSR, bool, error) {
	pending, err := c.PendingCSR(ctx, r.withDefaults(c.o.Host).Service)
	if err != nil || pending == nil || pending.SHA256 == look.Pending {
		return nil, false, err
	}
	return pending, true, nil
}

func (r CSRRequest) withDefaults(host string) CSRRequest {
	r.Service = cmp.Or(r.Service, "tomcat")
	r.Distribution = cmp.Or(r.Distribution, "this-server")
	// Left to itself a cluster's request gets a name that is none of a node's.
	r.CommonName = cmp.Or(r.CommonName, host)
	r.Hash = cmp.Or(r.Hash, "sha256")
	if r.KeyType == "" {
		r.KeyType = "rsa"
		if strings.HasSuffix(r.Service, "-ECDSA") {
			r.KeyType = "ec"
		}
	}
	if r.KeyLength == 0 {
		r.KeyLength = 2048
		if r.KeyType == "ec" {
			r.KeyLength = 256
		}
	}
	return r
}

type csrBody struct {
	Service       string   `json:"service"`
	Distribution  string   `json:"distribution"`
	CommonName    string   `json:"commonName"`
	KeyType       string   `json:"keyType"`
	KeyLength     int      `json:"keyLength"`
	HashAlgorithm string   `json:"hashAlgorithm"`
	AltNames      []string `json:"altNames,omitempty"`
}

func (r CSRRequest) body() csrBody {
	return csrBody{r.Service, r.Distribution, r.CommonName, r.KeyType, r.KeyLength, r.Hash, r.AltNames}
}

// check refuses what no node can generate.
func (r CSRRequest) check() error {
	if r.CommonName != "" {
		if err := checkName("common_name", r.CommonName); err != nil {
			return err
		}
	}
	for i, name := range r.AltNames {
		if err := checkName(fmt.Sprintf("alt_names[%d]", i+1), name); err != nil {
			return err
		}
	}
	full := r.withDefaults("")
	if strings.HasSuffix(full.Service, "-ECDSA") && full.KeyType != "ec" {
		return problem.Invalid("key_type", fmt.Sprintf(`must be "ec" for a %s certificate, got %q`, full.Service, full.KeyType))
	}
	lengths := []int{2048, 3072, 4096}
	if full.KeyType == "ec" {
		lengths = []int{256, 384, 521}
	}
	if !slices.Contains(lengths, full.KeyLength) {
		return problem.Invalid("key_length", fmt.Sprintf("must be %d, %d or %d for a key of type %s, got %d", lengths[0], lengths[1], lengths[2], full.KeyType, full.KeyLength))
	}
	return nil
}

func checkName(key, name string) error {
	if strings.Contains(name, "*") {
		e := problem.Invalid(key, fmt.Sprintf("must not be a wildcard, got %q: the appliance takes no wildcard certificate", name))
		e.Hint = "name each host in alt_names"
		return e
	}
	if !hostName(name) {
		return problem.Invalid(key, fmt.Sprintf("must be a host name such as %q, got %q", "cucm01-pub.example.com", name))
	}
	return nil
}

// mayChange refuses, as Usage, changes that can lock phones out.
func (c *Client) mayChange(service string) error {
	if err := mayChange(service, c.o.AllowPhoneLockout); err != nil {
		return c.failed("", err)
	}
	return nil
}

func mayChange(service string, allowed bool) error {
	switch trustService(service) {
	case "CallManager", "CAPF", "TVS", "ITLRecovery":
		if !allowed {
			return &problem.Error{
				Kind: problem.Usage, Message: "a wrong change to " + service + " locks the phones out",
				Hint: "if that is intended, set allow_phone_lockout = true",
			}
		}
	}
	return nil
}
