// Package lab joins the test doubles into one world, all of it on loopback: an
// ACME CA (acmetest), DNS with its providers (dnstest) and a CUCM cluster
// (cucmtest). Everything is reached under its real name, so a playbook runs
// against the lab unchanged.
//
// # The folder
//
// Start writes into Options.Dir what moonseal needs to work with the world:
//
//	moonseal.yaml   the config; its hosts send the real names to loopback
//	lab.env         the secrets as KEY=value, new at each start; see [World.Env]
//	ca.pem          the roots of the lab: of its HTTPS and of what its CAs issue
//	scripts/        filled once; a folder that is there already is left alone
//	state/accounts/<node>/pins.json   what each node shows at first
//	control.url     where the control API listens; there while the world runs
//
// # The control API
//
// Plain HTTP and JSON on loopback, for tests and for use by hand; [Client] speaks it.
// Durations are in nanoseconds. An error is {"error": "..."} with a 4xx status.
//
//	GET    /ledger                    what happened: [Ledger]
//	GET    /calls                     the names that a fault's call may have
//	POST   /faults                    adds a faults.Fault, answers {"id": N}
//	GET    /faults                    the list, with hits and held
//	GET    /faults/N[?wait=held]      one; with wait once it holds a call
//	POST   /faults/N/release          lets go of what it holds
//	DELETE /faults                    removes all
//	GET    /cucm/NODE                 a node by its full name: [NodeState]
//	POST   /cucm/NODE                 changes it: [NodeChange]
//	GET    /dns                       the records: [DNSState]
//	POST   /dns                       changes them, and the delays: [DNSChange]
//	POST   /acme                      fixes a certificate's renewal window: [ACMEChange]
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
)

// Domain is the zone that the world's nodes and names are in.
const Domain = "automate.builders"

// Options say what world it is. Only Dir must be set.
type Options struct {
	Dir     string // where the files go; made if it is not there
	Scripts fs.FS  // what a new scripts folder is filled with; an empty one when nil

	Nodes     []cucmtest.NodeOptions // cucm01-pub, cucm02-sub and imp01 when empty
	Behavior  cucmtest.Behavior      // of the nodes; RestartOutage is 3 s when 0, none when negative
	SpareKeys int                    // RSA keys that the nodes make ahead; 1 when 0, none when negative

	PropagationDelay []time.Duration // one for each authoritative server; none and 200 ms when empty
	NegativeTTL      time.Duration   // how long the resolver caches absence; not at all when 0

	// DNS is another DNS server, host:port, such as a BIND that serves Domain: the CA
	// validates through it, it is the resolver in moonseal.yaml, and the names of the
	// world's name servers lead to it. The world's own DNS when "".
	DNS string

	// Hosts are further names, name:port to address:port on loopback, or other places
	// for names of the world: a name server's, another CA's. Roots, in PEM, are trusted
	// beside the world's own. The ledger holds nothing of what others do.
	Hosts map[string]string
	Roots string

	NonceReject int           // good nonces that the CA refuses, in percent
	AuthzReuse  int           // identifiers that get an earlier authorization again, in percent
	RetryAuthz  int           // Retry-After of a pending authorization, in seconds; none when 0
	RetryOrder  int           // Retry-After of a processing order, in seconds; none when 0
	Validity    time.Duration // of what the CA issues; 90 days when 0

	Strict         bool // the CA refuses what older drafts of its protocol allowed
	RequireEAB     bool // the CA asks for the external account binding, see EABKeyID
	StandardEAB    bool // the secret EAB_HMAC is in standard base64, padded, as some CAs show it
	AlternateRoots int  // further roots of the CA, each with a chain of its own
	RelativeLinks  bool // the CA's headers hold relative URLs

	Settings map[string]map[string]any // further settings of modules in moonseal.yaml, by module

	Clock clockwork.Clock // of DNS and of the nodes; the real one when nil
	Log   *slog.Logger    // of the doubles; silent when nil
}

const (
	defaultOutage = 3 * time.Second
	slowServer    = 200 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("lab: needs a folder")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("lab: %w", err)
	}
	o.Dir = dir
	if o.DNS != "" {
		host, port, err := net.SplitHostPort(o.DNS)
		if err != nil { // without a port
			host, port = strings.Trim(o.DNS, "[]"), "53"
		}
		if n, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || n == 0 {
			return o, fmt.Errorf("lab: DNS must be host or host:port, got %q", o.DNS)
		}
		o.DNS = net.JoinHostPort(host, port)
	}
	if len(o.Nodes) == 0 {
		o.Nodes = []cucmtest.NodeOptions{
			{Host: "cucm01-pub", Role: cucmtest.Publisher},
			{Host: "cucm02-sub", Role: cucmtest.Subscriber},
			{Host: "imp01", Role: cucmtest.Presence},
		}
	}
	if o.Behavior.RestartOutage == 0 {
		o.Behavior.RestartOutage = defaultOutage
	}
	if o.SpareKeys == 0 {
		o.SpareKeys = 1
	}
	if len(o.PropagationDelay) == 0 {
		o.PropagationDelay = []time.Duration{0, slowServer}
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// World is a running world. Its methods are safe for concurrent use. The doubles
// are there for tests in the same process.
type World struct {
	CA      *acmetest.CA
	DNS     *dnstest.World
	Cluster *cucmtest.Cluster

	opt     Options
	env     []variable
	faults  *faults.Set
	control *control
	unlock  func() error
	end     func() error // shut, once
}

// Start starts a world on free loopback ports. It runs until Close; when ctx
// ends, what the CA and the control API are serving is cut and they serve no
// more. A program that may be built with -race calls acmetest.Main first.
func Start(ctx context.Context, o Options) (*World, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &World{opt: o, faults: faults.New(), env: newEnv(o)}
	w.end = sync.OnceValue(w.shut)
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) start(ctx context.Context) (err error) {
	if w.unlock, err = takeFolder(w.opt.Dir); err != nil {
		return err
	}
	if err := w.startDNS(); err != nil {
		return err
	}
	if err := w.startCluster(); err != nil {
		return err
	}
	if err := w.startCA(ctx); err != nil {
		return err
	}
	if w.control, err = serveControl(ctx, w); err != nil {
		return fmt.Errorf("lab: control API: %w", err)
	}
	return w.writeFiles()
}

// Close ends the world and waits for all that it owns. The folder stays, but for
// control.url. Only the first call does something.
func (w *World) Close() error { return w.end() }

func (w *World) shut() (err error) {
	if w.control != nil {
		err = errors.Join(w.dropControlURL(), w.control.close())
	}
	if w.CA != nil {
		err = errors.Join(err, w.CA.Close())
	}
	if w.Cluster != nil {
		w.Cluster.Close()
	}
	if w.DNS != nil {
		w.DNS.Close()
	}
	if w.unlock != nil {
		err = errors.Join(err, w.unlock())
	}
	return err
}

func (w *World) startDNS() (err error) {
	w.DNS, err = dnstest.Start(dnstest.Options{
		Zones: []string{Domain}, Servers: len(w.opt.PropagationDelay), PropagationDelay: w.opt.PropagationDelay, NegativeTTL: w.opt.NegativeTTL,
		Faults: w.faults, Clock: w.opt.Clock,
		Credentials: dnstest.Credentials{
			CloudflareToken: w.Env("CF_API_TOKEN"), DigitalOceanToken: w.Env("DO_API_TOKEN"),
			Route53AccessKeyID: w.Env("AWS_ACCESS_KEY_ID"), Route53SecretKey: w.Env("AWS_SECRET_ACCESS_KEY"),
			TSIGSecret: w.Env("TSIG_KEY"),
		},
	})
	return err
}

func (w *World) startCluster() error {
	c, err := cucmtest.New(cucmtest.Options{
		Domain: Domain, Nodes: w.opt.Nodes, Behavior: w.opt.Behavior, SpareKeys: w.opt.SpareKeys,
		Username: w.Env("CUCM_USERNAME"), Password: w.Env("CUCM_PASSWORD"),
		ReadOnlyUsername: w.Env("CUCM_READER_USERNAME"), ReadOnlyPassword: w.Env("CUCM_READER_PASSWORD"),
		Faults: w.faults, Clock: w.opt.Clock, Log: w.opt.Log,
	})
	if err != nil {
		return err
	}
	w.Cluster = c
	return c.Start()
}

// caHosts are the CAs whose part the lab's CA plays.
func caHosts() []string {
	return []string{"acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org", "acme.zerossl.com", "dv.acme-v02.api.pki.goog"}
}

// EABKeyID is the key id that goes with the secret EAB_HMAC. The lab's CA takes
// an external account binding and asks for one only if [Options].RequireEAB is set.
const EABKeyID = "lab"

func (w *World) startCA(ctx context.Context) (err error) {
	w.CA, err = acmetest.Start(ctx, acmetest.Options{
		DNSAddr: w.Resolver(), Hosts: caHosts(), DirectoryPaths: []string{"/directory", "/v2/DV90"},
		NonceReject: w.opt.NonceReject, AuthzReuse: w.opt.AuthzReuse, RetryAuthz: w.opt.RetryAuthz, RetryOrder: w.opt.RetryOrder,
		Strict: w.opt.Strict, RequireEAB: w.opt.RequireEAB, AlternateRoots: w.opt.AlternateRoots, RelativeLinks: w.opt.RelativeLinks,
		EAB:      map[string]string{EABKeyID: urlAlphabet(w.Env("EAB_HMAC"))},
		Profiles: map[string]acmetest.Profile{"classic": {Description: "as Let's Encrypt's", Validity: w.opt.Validity, PromoteCommonName: true}},
		Faults:   w.faults, Log: w.opt.Log,
	})
	return err
}

// Faults is the one set that all doubles ask.
func (w *World) Faults() *faults.Set { return w.faults }

// ControlURL is where the control API listens, without a trailing slash.
func (w *World) ControlURL() string { return w.control.url }

// ConfigPath is the moonseal.yaml that was written.
func (w *World) ConfigPath() string { return filepath.Join(w.opt.Dir, configFile) }

// Hosts maps each real "name:port" of the world to its loopback "address:port".
func (w *World) Hosts() map[string]string {
	hosts := w.DNS.Hosts()
	for name := range hosts {
		if w.opt.DNS != "" && strings.HasSuffix(name, "."+Domain+":53") {
			hosts[name] = w.opt.DNS
		}
	}
	maps.Copy(hosts, w.Cluster.Addrs())
	for _, name := range caHosts() {
		hosts[net.JoinHostPort(name, "443")] = w.caAddr()
	}
	maps.Copy(hosts, w.opt.Hosts)
	return hosts
}

// Resolver is the DNS server that the CA and moonseal ask, host:port.
func (w *World) Resolver() string { return cmp.Or(w.opt.DNS, w.DNS.Resolver()) }

func (w *World) caAddr() string {
	u, err := url.Parse(w.CA.DirectoryURL())
	if err != nil {
		return ""
	}
	return u.Host
}
