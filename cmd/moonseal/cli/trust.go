package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moonseal/modules/ssh"
	"moonseal/runtime/account"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

const (
	trustTimeout = 30 * time.Second // of one look at a host
	maxAnswer    = 1 << 10          // bytes of what a person types
)

func (a *app) trustCommand() *cobra.Command {
	t := truster{in: a.stdin, out: a.stdout}
	cmd := &cobra.Command{
		Use:   "trust HOST",
		Short: "Show a host's certificate and SSH key, and pin them",
		Long: `Shows the certificate and the SSH host key with which HOST identifies itself, asks,
and pins them: from then on moonseal talks to that host only while it shows them,
or a certificate that a trusted CA issued. Compare both with what the appliance
shows on its console before you answer yes.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			return t.trust(cmd.Context(), cfg, args[0])
		},
	}
	f := cmd.Flags()
	f.IntVar(&t.port, "port", 443, "port of the REST API")
	f.IntVar(&t.sshPort, "ssh-port", 22, "port of the SSH prompt; 0 skips SSH")
	f.StringVar(&t.tenant, "tenant", "", "for the playbooks of this tenant: a directory in the scripts directory")
	f.BoolVar(&t.yes, "yes", false, "do not ask")
	return cmd
}

// truster shows what a host shows, asks, and pins it.
type truster struct {
	in            io.Reader
	out           io.Writer
	port, sshPort int
	tenant        string
	yes           bool
}

func (t *truster) trust(ctx context.Context, cfg *config.Config, host string) error {
	if err := ownState(cfg); err != nil {
		return err
	}
	if err := knownTenant(cfg, t.tenant); err != nil {
		return err
	}
	network, err := grant.New(cfg.Network())
	if err != nil {
		return err
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	store := account.Open(cfg.State, t.tenant)
	pins, err := store.Pins(host)
	if err != nil {
		return err
	}
	seen, err := t.look(ctx, network, host)
	if err != nil {
		return err
	}
	t.compare(pins, seen)
	if !t.yes {
		if ok, err := t.ask(store, host); err != nil || !ok {
			return err
		}
	}
	if seen.TLS != nil {
		pins.TLS = seen.TLS
	}
	if seen.SSH != nil {
		pins.SSH = seen.SSH
	}
	if err := store.SavePins(host, pins); err != nil {
		return err
	}
	_, _ = plain.Fprintf(t.out, "%s is trusted as shown\n", host)
	return nil
}

// shownBy returns the certificate that host shows at addr. Nothing is verified: a
// person or a pin compares it.
func shownBy(ctx context.Context, network *grant.Network, host, addr string) (*x509.Certificate, error) {
	conn, err := network.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, problem.At(problem.Network(err), "", addr)
	}
	defer func() { _ = conn.Close() }()
	client := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, problem.At(problem.Network(err), "", addr)
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

// fingerprint is SHA-256 over the certificate's DER, in lower-case hex.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// look connects to the host, and prints what it shows.
func (t *truster) look(ctx context.Context, network *grant.Network, host string) (account.Pins, error) {
	var seen account.Pins
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	addr := net.JoinHostPort(host, strconv.Itoa(t.port))
	leaf, err := shownBy(ctx, network, host, addr)
	if err != nil {
		return seen, err
	}
	seen.TLS = []string{fingerprint(leaf)}
	w := t.out
	_, _ = plain.Fprintf(w, "%s shows the certificate\n  sha256    %s\n  subject   %s\n  issuer    %s\n  valid     %s to %s\n", addr, colons(seen.TLS[0]),
		quoted(leaf.Subject.String()), quoted(leaf.Issuer.String()), leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	if t.sshPort == 0 {
		return seen, nil
	}
	sshAddr := net.JoinHostPort(host, strconv.Itoa(t.sshPort))
	key, err := ssh.HostKey(ctx, sshAddr, network.Dial)
	if err != nil {
		return seen, problem.At(err, "", sshAddr)
	}
	seen.SSH = []string{key}
	_, _ = plain.Fprintf(w, "%s shows the SSH host key\n  %s\n", sshAddr, key)
	return seen, nil
}

// quoted quotes what a peer claims of itself, which is not verified yet. It is cut, so
// that it cannot push the fingerprint off the screen.
func quoted(s string) string {
	const most = 200
	if runes := []rune(s); len(runes) > most {
		return fmt.Sprintf("%q and %d characters more", string(runes[:most]), len(runes)-most)
	}
	return strconv.Quote(s)
}

// compare prints how that differs from the pins: a person must see a change.
func (t *truster) compare(old, seen account.Pins) {
	for _, c := range []struct {
		what      string
		old, seen []string
		show      func(string) string
	}{
		{"certificate", old.TLS, seen.TLS, colons},
		{"SSH host key", old.SSH, seen.SSH, func(key string) string { return key }},
	} {
		switch {
		case len(c.old) == 0 || len(c.seen) == 0:
		case slices.Contains(c.old, c.seen[0]):
			_, _ = plain.Fprintf(t.out, "the %s is the one that is pinned\n", c.what)
		default:
			_, _ = plain.Fprintf(t.out, "the %s DIFFERS from the pinned one: %s\n", c.what, c.show(c.old[0]))
		}
	}
}

// knownTenant refuses a tenant that is not a directory of the scripts: no playbook would
// ever use its pins.
func knownTenant(cfg *config.Config, tenant string) error {
	if tenant == "" {
		return nil
	}
	entries, err := os.ReadDir(cfg.Scripts)
	if err != nil {
		return &problem.Error{Kind: problem.Usage, Target: cfg.Scripts, Message: "cannot be read: " + problem.Reason(err), Cause: err}
	}
	var tenants []string
	for _, entry := range entries {
		name := entry.Name()
		if bundle.Tenant(name+"/x") == "" || strings.HasPrefix(name, ".") {
			continue
		}
		if info, err := os.Stat(filepath.Join(cfg.Scripts, name)); err == nil && info.IsDir() {
			tenants = append(tenants, name)
		}
	}
	if slices.Contains(tenants, tenant) {
		return nil
	}
	e := &problem.Error{Kind: problem.Usage, Target: cfg.Scripts, Message: fmt.Sprintf("there is no tenant %q", tenant), Hint: "a tenant is a directory in the scripts directory"}
	if near := suggest.Closest(tenant, tenants); near != "" {
		e.Hint = "did you mean " + near + "?"
	}
	return e
}

func (t *truster) ask(store *account.Store, host string) (bool, error) {
	w := t.out
	_, _ = plain.Fprintf(w, "Trust %s as shown? Type yes: ", host)
	answer, err := bufio.NewReader(io.LimitReader(t.in, maxAnswer)).ReadString('\n')
	if strings.TrimSpace(answer) == "yes" {
		return true, nil
	}
	if answer == "" && err != nil {
		_, _ = fmt.Fprintln(w)
		yes := " --yes"
		if t.sshPort == 0 {
			yes = " --ssh-port 0 --yes"
		}
		return false, &problem.Error{
			Kind: problem.Usage, Target: host, Message: "not pinned: stdin is not a terminal",
			Hint: "compare it with the host's own console, then: " + store.TrustCommand(host, t.port, t.sshPort) + yes,
		}
	}
	_, _ = fmt.Fprintln(w, "nothing is changed")
	return false, exitCode(exitFailed)
}

// colons writes a fingerprint as appliances show it.
func colons(sum string) string {
	var parts []string
	for i := 0; i+2 <= len(sum); i += 2 {
		parts = append(parts, sum[i:i+2])
	}
	return strings.ToUpper(strings.Join(parts, ":"))
}
