// Package nameserver runs BIND and Knot DNS for tests, as primaries and as secondaries
// of one zone. Each runs in a daemon of daemontest.New; the tests of modules/dns with real
// servers show how.
package nameserver

import (
	"fmt"
	"strings"
	"testing"

	"moonseal/modules/daemontest"
)

// Zone is a zone whose TXT records the key Key may change.
type Zone struct {
	Name   string
	Secret string // of the key, in base64
}

// The zone's keys.
const (
	Key      = "moonseal-key" // may update and transfer
	Transfer = "xfer"         // may transfer

	transferSecret = "dHJhbnNmZXItc2VjcmV0LW9mLTMyLWJ5dGVzLWxvbmc=" //nolint:gosec // of a test
)

// NeedBIND and NeedKnot skip the test if the program is not installed.
func NeedBIND(t testing.TB) string {
	t.Helper()
	return daemontest.Program(t, "named", "Debian's package bind9")
}

// NeedKnot is as NeedBIND.
func NeedKnot(t testing.TB) string {
	t.Helper()
	return daemontest.Program(t, "knotd", "Debian's package knot")
}

// File is the zone's text, with further records. Its name servers are ns1 and ns2.
func (z Zone) File(extra string) string {
	return fmt.Sprintf(`$TTL 60
@ IN SOA ns1.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 300
@ IN NS ns1.%[1]s.
@ IN NS ns2.%[1]s.
ns1 IN A 127.0.0.1
ns2 IN A 127.0.0.1
`, z.Name) + extra
}

// BINDKeys are the keys, for a named.conf.
func (z Zone) BINDKeys() string {
	return fmt.Sprintf(`
key %q { algorithm hmac-sha256; secret %q; };
key %q { algorithm hmac-sha256; secret %q; };
`, Key, z.Secret, Transfer, transferSecret)
}

// BINDOptions are the options of a named.conf, with more of them.
func BINDOptions(d *daemontest.Daemon, more string) string {
	return `options {
	directory "` + d.Dir + `"; pid-file none; session-keyfile none; managed-keys-directory "` + d.Dir + `";
	listen-on port ` + d.Port + ` { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; dnssec-validation no;
	` + more + `
};
controls { };
`
}

// StartBIND starts a BIND with this named.conf.
func StartBIND(t testing.TB, d *daemontest.Daemon, conf string) {
	t.Helper()
	d.Run(NeedBIND(t), "-g", "-4", "-n", "1", "-c", d.Write("named.conf", conf))
	d.Says(" running\n")
}

// BINDPrimary starts a primary with further records, which notifies its secondaries of
// each change. options are further ones of named.conf.
func (z Zone) BINDPrimary(t testing.TB, d *daemontest.Daemon, options, records string, secondaries ...*daemontest.Daemon) {
	t.Helper()
	var notify strings.Builder
	for _, s := range secondaries {
		notify.WriteString("127.0.0.1 port " + s.Port + "; ")
	}
	d.Write("zone.db", z.File(records))
	StartBIND(t, d, z.BINDKeys()+BINDOptions(d, options)+fmt.Sprintf(`
zone %q { type primary; file "zone.db"; notify explicit; also-notify { %s};
	allow-transfer { key %s; key %s; }; update-policy { grant %s zonesub TXT; }; };
`, z.Name, notify.String(), Transfer, Key, Key))
}

// BINDSecondary starts a secondary, and waits until it has the zone.
func (z Zone) BINDSecondary(t testing.TB, d, primary *daemontest.Daemon) {
	t.Helper()
	StartBIND(t, d, z.BINDKeys()+BINDOptions(d, "")+fmt.Sprintf(`
server 127.0.0.1 { request-expire no; };
zone %q { type secondary; file "zone.db"; primaries port %s { 127.0.0.1 key %s; }; allow-notify { 127.0.0.1; }; min-refresh-time 1; };
`, z.Name, primary.Port, Transfer))
	d.Says("Transfer status: success")
}

func (z Zone) knotConf(d *daemontest.Daemon, remotes []*daemontest.Daemon, key string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
    rundir: %[1]q
    listen: 127.0.0.1@%[2]s
database:
    storage: %[1]q
log:
  - target: stderr
    any: debug
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
  - id: %[5]s
    algorithm: hmac-sha256
    secret: %[6]s
remote:
`, d.Dir, d.Port, Key, z.Secret, Transfer, transferSecret)
	for i, r := range remotes {
		fmt.Fprintf(&b, "  - id: remote%d\n    address: 127.0.0.1@%s\n", i+1, r.Port)
		if key != "" {
			fmt.Fprintf(&b, "    key: %s\n", key)
		}
	}
	return b.String()
}

func startKnot(t testing.TB, d *daemontest.Daemon, conf string) {
	t.Helper()
	d.Run(NeedKnot(t), "-c", d.Write("knot.conf", conf))
	d.Says("server started")
}

// KnotPrimary starts a primary with further records, which notifies its secondaries of
// each change.
func (z Zone) KnotPrimary(t testing.TB, d *daemontest.Daemon, records string, secondaries ...*daemontest.Daemon) {
	t.Helper()
	notify := make([]string, len(secondaries))
	for i := range secondaries {
		notify[i] = fmt.Sprintf("remote%d", i+1)
	}
	d.Write("zone.db", z.File(records))
	startKnot(t, d, z.knotConf(d, secondaries, "")+fmt.Sprintf(`acl:
  - id: update
    key: %s
    action: [update, transfer]
  - id: transfer
    key: %s
    action: transfer
zone:
  - domain: %s
    storage: %q
    file: zone.db
    notify: [%s]
    acl: [update, transfer]
`, Key, Transfer, z.Name, d.Dir, strings.Join(notify, ", ")))
}

// KnotSecondary starts a secondary, and waits until it has the zone.
func (z Zone) KnotSecondary(t testing.TB, d, primary *daemontest.Daemon) {
	t.Helper()
	startKnot(t, d, z.knotConf(d, []*daemontest.Daemon{primary}, Transfer)+fmt.Sprintf(`acl:
  - id: notified
    address: 127.0.0.1
    action: notify
zone:
  - domain: %s
    storage: %q
    file: zone.db
    master: remote1
    acl: notified
`, z.Name, d.Dir))
	d.Says("zone updated")
}
