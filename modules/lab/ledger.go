package lab

import (
	"context"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
)

// Ledger is what happened in the world, oldest first. Fingerprints are SHA-256
// over the DER in lower-case hex. It holds no secrets.
type Ledger struct {
	Orders       []acmetest.Order       `json:"orders"`
	Certificates []acmetest.Certificate `json:"certificates"` // all that were issued, downloaded or not
	TXT          dnstest.Ledger         `json:"txt"`          // TXT records that are there, and what became of each
	CSRs         []cucmtest.CSR         `json:"csrs"`
	Uploads      []cucmtest.Upload      `json:"uploads"`
	Restarts     []cucmtest.Restart     `json:"restarts"` // those that have started
	Logins       []cucmtest.Login       `json:"logins"`
	Installed    map[string]string      `json:"installed"` // node -> fingerprint of tomcat's certificate
	Served       map[string]string      `json:"served"`    // node -> fingerprint of what its HTTPS shows
}

// Ledger returns what happened so far.
func (w *World) Ledger(ctx context.Context) (*Ledger, error) {
	ca, err := w.CA.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	cucm := w.Cluster.Ledger()
	return &Ledger{
		Orders: ca.Orders, Certificates: ca.Certificates, TXT: w.DNS.TXT(),
		CSRs: cucm.CSRs, Uploads: cucm.Uploads, Restarts: cucm.Restarts, Logins: cucm.Logins,
		Installed: cucm.Installed, Served: cucm.Served,
	}, nil
}
