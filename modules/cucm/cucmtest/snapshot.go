package cucmtest

import (
	"net/http"
	"strings"
)

type snapshotIdentity struct {
	Service     string `json:"service"`
	Certificate string `json:"certificate"`
	CSR         string `json:"csr"`
}

type snapshotFile struct {
	Filename    string `json:"filename"`
	Certificate string `json:"certificate"`
}

type snapshotTrust struct {
	Service string         `json:"service"`
	Data    []snapshotFile `json:"certificate_data"`
}

func (n *Node) getSnapshot(*http.Request) (int, any, *apiError) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	identities, trusts := []snapshotIdentity{}, []snapshotTrust{}
	for _, service := range sortedKeys(n.identities) {
		entry := snapshotIdentity{Service: service, Certificate: toPEM("CERTIFICATE", n.identities[service].cert.Raw)}
		if p := n.pending[service]; p != nil {
			entry.CSR = p.pem
		}
		identities = append(identities, entry)
	}
	for _, store := range sortedKeys(n.trust) {
		entry := snapshotTrust{Service: store, Data: []snapshotFile{}}
		for _, cert := range n.trust[store].list() {
			file := strings.ReplaceAll(cert.Subject.CommonName, " ", "_") + ".pem"
			entry.Data = append(entry.Data, snapshotFile{file, toPEM("CERTIFICATE", cert.Raw)})
		}
		trusts = append(trusts, entry)
	}
	return http.StatusOK, map[string]any{
		"trackingId": trackingID(), "server": n.fqdn, "identities": identities, "trusts": trusts, "revokedCertificates": []string{},
	}, nil
}
