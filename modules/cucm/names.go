package cucm

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// expected returns the names that a signing request of the node may hold, as the playbook
// says. What the node itself says is not evidence: a node that was taken over would get
// certificates for other hosts of the domain.
func (r CSRRequest) expected(host string) []string {
	nodes := append([]string{host}, r.Members...)
	out := slices.Concat(nodes, r.AltNames, r.Names, []string{r.withDefaults(host).CommonName})
	if r.withDefaults(host).Distribution != "this-server" {
		for _, node := range nodes {
			out = append(out, parentDomain(node)...) // the appliance adds it by itself
		}
	}
	for i, name := range out {
		out[i] = strings.TrimSuffix(strings.ToLower(name), ".")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// parentDomain returns the domain of a host; none if that would be a top-level one.
func parentDomain(host string) []string {
	_, domain, _ := strings.Cut(strings.TrimSuffix(host, "."), ".")
	if net.ParseIP(host) != nil || !strings.Contains(domain, ".") {
		return nil
	}
	return []string{domain}
}

// checkNames reports, as a Mismatch, a name in a signing request that the playbook
// does not expect.
func (c *Client) checkNames(r CSRRequest, csr *x509.CSR) error {
	expected := r.expected(c.o.Host)
	for _, name := range append(slices.Clone(csr.Names), strings.ToLower(csr.CommonName)) {
		if name == "" || slices.Contains(expected, name) {
			continue
		}
		return c.failed("checking the CSR of "+csr.Service, &problem.Error{
			Kind: problem.Mismatch, Work: problem.NotDone,
			Message: fmt.Sprintf("the node asks for a certificate for %q, and the playbook expects %s", name, strings.Join(expected, " ")),
			Hint: "if it is another node of the cluster, list it in members; if the certificate is to have this name too, add it to names (or alt_names) of the CSR; " +
				"otherwise find out what has changed the node",
		})
	}
	return nil
}
