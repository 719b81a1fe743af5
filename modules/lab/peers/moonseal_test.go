package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/x509"
	"moonseal/runtime/api"
	"moonseal/runtime/journal"
)

// renewScript obtains a certificate as a renewal does: the record is published over
// the provider's API, watched at the authoritative servers, and removed.
const renewScript = `local acme, dns = require "acme", require "dns"
local csr = %s
return playbook { run = function(ctx)
	local ca = acme.ca { directory = "lab", email = "` + email + `" }
	local zone = dns.zone { provider = "cloudflare", api_token = secret "CF_API_TOKEN" }
	local acct = ctx:step("creating_account", function() return ca:account() end)
	local order = ctx:step("requesting_certificate", function() return acct:order { csr = csr } end)
	ctx:step("creating_dns_challenge", function() return zone:present(order.challenges) end)
	ctx:poll("waiting_dns_propagation", { within = "1m" }, function() return zone:propagated(order.challenges) end)
	ctx:step("completing_validation", function() return acct:validate(order) end)
	ctx:step("downloading_certificate", function() return acct:finalize(order, csr) end)
end }`

func playbook(i int) string { return fmt.Sprintf("renew%02d", i) }

// daemon is a moonseal serve with a playbook for each certificate.
type daemon struct {
	ctx   context.Context
	cmd   *exec.Cmd
	api   *api.Client
	state string
	runs  int
	out   bytes.Buffer
}

// build returns the path of a moonseal that is built from this checkout, with the
// versions of its own go.mod.
func build(tb testing.TB) string {
	tb.Helper()
	exe := filepath.Join(tb.TempDir(), "moonseal")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-C", filepath.Join("..", "..", ".."), "-buildvcs=false", "-o", exe, "./cmd/moonseal")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("building moonseal: %v: %s", err, out)
	}
	return exe
}

// startDaemon starts the daemon, and waits until it has loaded its playbooks and the
// first of them has run, which leaves it with an account.
func startDaemon(tb testing.TB, w *testbed, exe string, csrs [][]byte) (*daemon, error) {
	dir := tb.TempDir()
	d := &daemon{ctx: tb.Context(), state: filepath.Join(dir, "state"), runs: len(csrs)}
	d.api = api.Dial(filepath.Join(d.state, "moonseal.sock"))
	if err := d.write(w, dir, csrs); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = notify.Close() }()
	if err := notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(exe, "serve", "--config", filepath.Join(dir, "moonseal.yaml"))
	d.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + path, "CF_API_TOKEN=" + w.dns.Credentials().CloudflareToken}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := d.loaded(notify); err != nil {
		return nil, errors.Join(fmt.Errorf("loading the playbooks: %w", err), d.stop())
	}
	if _, err := d.run(playbook(0)); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// write writes the daemon's config and playbooks.
func (d *daemon) write(w *testbed, dir string, csrs [][]byte) error {
	config, err := json.Marshal(map[string]any{ // which is YAML too
		"scripts": "scripts", "state": "state", "log": map[string]any{"level": "warn"}, "concurrency": atOnce,
		"ca_bundle": "ca.pem", "hosts": w.dns.Hosts(),
		"modules": map[string]any{
			"acme": map[string]any{"directories": map[string]string{"lab": w.ca.DirectoryURL()}},
			"dns":  map[string]any{"resolvers": []string{dnstest.ResolverHost}},
		},
	})
	if err != nil {
		return err
	}
	files := map[string]string{"moonseal.yaml": string(config), "ca.pem": w.roots()}
	for i, csr := range csrs {
		table, err := luaCSR(csr)
		if err != nil {
			return err
		}
		files[filepath.Join("scripts", playbook(i)+".lua")] = fmt.Sprintf(renewScript, table)
	}
	if err := os.Mkdir(filepath.Join(dir, "scripts"), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// luaCSR returns a signing request as a Lua table, as an appliance's module returns it.
func luaCSR(der []byte) (string, error) {
	csr, err := x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`{ pem = %q, names = { %q }, key_sha256 = %q, sha256 = %q, host = %q, service = "tomcat" }`,
		csr.PEM, csr.Names[0], csr.KeySHA256, csr.SHA256, csr.Names[0]), nil
}

// loaded reads what the daemon notifies its service manager of until it has loaded
// all playbooks.
func (d *daemon) loaded(notify *net.UnixConn) error {
	buf := make([]byte, 4096)
	for status := ""; !strings.Contains(status, fmt.Sprintf("STATUS=%d playbook", d.runs)); {
		n, err := notify.Read(buf)
		if err != nil {
			return fmt.Errorf("last status %q: %w", status, err)
		}
		status = string(buf[:n])
	}
	return nil
}

// run runs a playbook to its end.
func (d *daemon) run(name string) (*journal.Run, error) {
	r, err := d.api.Run(d.ctx, api.RunRequest{Playbook: name})
	if err != nil {
		return nil, err
	}
	run, err := d.api.Follow(d.ctx, r.ID, func(journal.Record) {})
	if err != nil {
		return nil, err
	}
	if run.Status != journal.Done {
		return nil, fmt.Errorf("%s ended as %s: %s %w", name, run.Status, run.Reason, run.Error)
	}
	return run, nil
}

// obtain runs all playbooks but the first. The daemon has them all from the start, and
// works on atOnce at a time.
func (d *daemon) obtain() (cost, error) {
	ended := make(chan error)
	return measure(d.cmd.Process.Pid, func() error {
		for i := 1; i < d.runs; i++ {
			go func() {
				_, err := d.run(playbook(i))
				ended <- err
			}()
		}
		var errs []error
		for i := 1; i < d.runs; i++ {
			errs = append(errs, <-ended)
		}
		return errors.Join(errs...)
	})
}

// alone runs one playbook while nothing else runs, and returns how long that took from
// the run's creation to its end, as the journal has both.
func (d *daemon) alone() (time.Duration, error) {
	run, err := d.run(playbook(0))
	if err != nil {
		return 0, err
	}
	return run.Ended.Sub(run.Created), nil
}

func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("moonseal serve: %w: %s", err, d.out.Bytes())
	}
	return nil
}
