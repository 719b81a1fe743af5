package cucm

import (
	"cmp"
	"context"
	stdx509 "crypto/x509"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

// Options say which node it is, and how it is reached. Host, Username and
// Password are needed; the zero value of the others is a default.
type Options struct {
	Host     string                                // the node's own fully qualified name
	Port     int                                   // of the REST API; 443 by default
	SSHPort  int                                   // 22 by default
	Username string                                // the OS administrator (platform) account, not an AXL user
	Password func(context.Context) (string, error) // asked when it is needed

	Pins     []string                 // SHA-256 over the DER of accepted TLS certificates, lower-case hex
	Roots    func() *stdx509.CertPool // returns what a certificate that is not pinned is verified against; the system's roots if nil
	OnPins   func([]string) error     // gets the new list before it counts; may be nil
	HostKeys []string                 // SSH host key fingerprints, "SHA256:…"
	Trust    string                   // the command that pins what the node shows, for hints; "moonseal trust HOST" by default
	Legacy   bool                     // allow SSH's weak algorithms, for old releases

	// AllowPhoneLockout permits changes to CallManager, CAPF, TVS and
	// ITLRecovery: done wrongly they lock the phones out.
	AllowPhoneLockout bool

	Dial           func(ctx context.Context, network, addr string) (net.Conn, error) // net.Dialer by default
	Timeout        time.Duration                                                     // of one REST request or handshake; 30 s by default
	Banner         time.Duration                                                     // until SSH's first prompt; 120 s by default
	PromptSettle   time.Duration                                                     // silence after a prompt that makes it one; 50 ms by default
	RestartTimeout time.Duration                                                     // of one service's restart; 10 min by default
	Replication    time.Duration                                                     // until what was uploaded must be listed, here or on the other nodes; 30 s by default
	Settle         time.Duration                                                     // a node that serves the old certificate after it was surely not restarted; 30 s by default
	Poll           time.Duration                                                     // between two looks of such a wait; 1 s by default
	Paths          Paths

	Clock clockwork.Clock // the real one by default
	Log   *slog.Logger    // silent by default
}

// Paths are the REST API's paths, below its base unless they begin with "/".
// Empty ones are the documented ones.
type Paths struct {
	Base           string `lua:"base,optional" doc:"the API's base"`
	CSR            string `lua:"csr,optional" doc:"generates and returns CSRs"`
	Identity       string `lua:"identity,optional" doc:"returns the installed certificate"`
	IdentityUpload string `lua:"identity_upload,optional" doc:"takes a service's certificate"`
	Trust          string `lua:"trust,optional" doc:"returns the trusted certificates"`
	TrustUpload    string `lua:"trust_upload,optional" doc:"takes trusted certificates"`
	Snapshot       string `lua:"snapshot,optional" doc:"returns all certificates of a server"`
}

func (p Paths) withDefaults() Paths {
	return Paths{
		Base:     strings.TrimSuffix(cmp.Or(p.Base, "/platformcom/api/v1/certmgr/config"), "/") + "/",
		CSR:      cmp.Or(p.CSR, "csr"),
		Identity: cmp.Or(p.Identity, "identity/certificate"), IdentityUpload: cmp.Or(p.IdentityUpload, "identity/certificates"),
		Trust: cmp.Or(p.Trust, "trust/certificate"), TrustUpload: cmp.Or(p.TrustUpload, "trust/certificates"),
		Snapshot: cmp.Or(p.Snapshot, "snapshot/server"),
	}
}

// hostForm is what may be in a URL's host: nothing that begins a port, a path or a user
// name.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

const maxHostName = 253

func hostName(s string) bool { return len(s) <= maxHostName && hostForm.MatchString(s) }

func (o Options) withDefaults() (Options, error) {
	switch {
	case !hostName(o.Host) && net.ParseIP(o.Host) == nil:
		return o, &problem.Error{Kind: problem.Usage, Target: o.Host, Message: "a node needs its fully qualified host name"}
	case o.Username == "" || o.Password == nil:
		return o, &problem.Error{Kind: problem.Usage, Target: o.Host, Message: "a node needs a user name and a password"}
	}
	o.Host = strings.ToLower(o.Host)
	o.Port, o.SSHPort = cmp.Or(o.Port, 443), cmp.Or(o.SSHPort, 22)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.Banner = cmp.Or(o.Banner, 120*time.Second)
	o.RestartTimeout = cmp.Or(o.RestartTimeout, 10*time.Minute)
	o.Replication = cmp.Or(o.Replication, 30*time.Second)
	o.Settle = cmp.Or(o.Settle, 30*time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Paths = o.Paths.withDefaults()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
