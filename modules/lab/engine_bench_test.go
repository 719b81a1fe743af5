package lab_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/modules"
	"moonseal/modules/acme"
	"moonseal/modules/acme/acmetest"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/atomicfile"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// email is of the account that the benchmarks share.
const email = "admin@example.com"

// engine runs playbooks in this process, with a journal on the disk.
type engine struct {
	journal  *journal.Journal
	registry *bind.Registry
	network  *grant.Network
	account  *account.Store
	bundle   *bundle.Bundle
	opening  sync.Map // *sandbox.State -> its *run.Run, while its playbook is loaded
}

// newEngine returns an engine that knows ca as "lab".
func newEngine(b *testing.B, ca *acmetest.CA, files map[string]string) *engine {
	b.Helper()
	dir := b.TempDir()
	e := &engine{account: account.Open(dir, "")}
	var err error
	if e.journal, err = journal.Open(b.Context(), dir, journal.Options{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.journal.Close() })
	net := grant.Options{CABundle: filepath.Join(dir, "ca.pem")}
	if err := atomicfile.WriteFile(net.CABundle, []byte(ca.CAPEM()+ca.RootPEM())); err != nil {
		b.Fatal(err)
	}
	if e.network, err = grant.New(net); err != nil {
		b.Fatal(err)
	}
	mods := modules.All()
	for _, m := range mods {
		if s, ok := m.Settings.(*acme.Settings); ok {
			s.Directories = map[string]string{"lab": ca.DirectoryURL()}
		}
	}
	if e.registry, err = bind.NewRegistry(mods...); err != nil {
		b.Fatal(err)
	}
	e.load(b, files)
	return e
}

// bundleHash is what the journal knows the scripts by.
const bundleHash = "bench"

func (e *engine) load(b *testing.B, files map[string]string) {
	b.Helper()
	var err error
	e.bundle, err = bundle.Load(b.Context(), &bundle.Tree{Files: files}, bundle.Env{Open: e.open})
	if err != nil || len(e.bundle.Problems) > 0 {
		b.Fatal(err, e.bundle.Problems)
	}
	if err := e.journal.SaveBundle(b.Context(), bundleHash, nil); err != nil {
		b.Fatal(err)
	}
	if err := e.fill(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// fill lets the journal's log grow to its size.
func (e *engine) fill(ctx context.Context) error {
	stamp := journal.Stamp{Run: e.journal.NewRunID(), Epoch: 1, At: time.Now()}
	if err := e.journal.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: "fill", Bundle: bundleHash}); err != nil {
		return err
	}
	err := journaltest.Fill(func(text string) error { return e.journal.Write(ctx, journal.Logged{Stamp: stamp, Message: text}) })
	if err != nil {
		return err
	}
	return e.journal.Write(ctx, journal.RunEnded{Stamp: stamp, Outcome: journal.Done})
}

// open returns the modules of a state: the run's own, or those that only load.
func (e *engine) open(s *sandbox.State) bundle.World {
	var b *bind.Binding
	if r, ok := e.opening.Load(s); ok {
		b = r.(*run.Run).Binding()
	} else {
		b = e.registry.Bind(s.L, pure{}, sandbox.Raise)
	}
	w := bundle.World{Modules: map[string]lua.LValue{}, Globals: b.Globals()}
	for _, m := range e.registry.Modules {
		w.Modules[m.Name] = b.Module(m.Name)
	}
	return w
}

// pure is the host of a state that only loads.
type pure struct{}

func (pure) Invoke(inv *bind.Invocation) (any, error) {
	return inv.Func.Impl.Run(nil, inv.Recv, inv.Args)
}

// run runs a playbook to its end; to may wrap the journal.
func (e *engine) run(ctx context.Context, name string, to run.Journal) error {
	id := e.journal.NewRunID()
	created := journal.RunCreated{Stamp: journal.Stamp{Run: id, Epoch: 1, At: time.Now()}, Playbook: name, Bundle: bundleHash}
	if err := e.journal.Write(ctx, created); err != nil {
		return err
	}
	h, err := e.journal.History(ctx, id)
	if err != nil {
		return err
	}
	state := sandbox.New(ctx, sandbox.Options{Source: e.bundle.Source})
	defer state.Close()
	r := run.New(state, run.Options{
		Registry: e.registry, History: h, Journal: to, Clock: clockwork.NewRealClock(), Network: e.network, Account: e.account,
		Logger: slog.New(slog.DiscardHandler), Secrets: secret.Map{}, Redactor: &secret.Redactor{}, Jitter: mathrand.Float64,
	})
	e.opening.Store(state, r)
	table, err := e.bundle.Playbook(ctx, state, name)
	e.opening.Delete(state)
	if err != nil {
		return err
	}
	p, err := run.ReadPlaybook(state.L, name, table)
	if err != nil {
		return err
	}
	out, err := r.Execute(ctx, p)
	switch {
	case err != nil:
		return err
	case out.Status != journal.Done:
		return fmt.Errorf("%s: %s %s %w", name, out.Status, out.Reason, out.Error)
	}
	return nil
}

// newCSR returns a signing request as an appliance makes it, and the same as a Lua
// table.
func newCSR(b *testing.B, name string) (*stdx509.CertificateRequest, string) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	der, err := stdx509.CreateCertificateRequest(rand.Reader, &stdx509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		b.Fatal(err)
	}
	csr, err := x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		b.Fatal(err)
	}
	req, err := csr.Request()
	if err != nil {
		b.Fatal(err)
	}
	return req, fmt.Sprintf(`{ pem = %q, names = { %q }, key_sha256 = %q, sha256 = %q, host = %q, service = "tomcat" }`,
		csr.PEM, name, csr.KeySHA256, csr.SHA256, name)
}

// withAccount registers the account that the playbook finds.
func (e *engine) withAccount(b *testing.B, ca *acmetest.CA) {
	b.Helper()
	c, err := acme.New(acme.CA{Directory: ca.DirectoryURL(), Email: email}, acme.Options{Store: e.account, RootCAs: ca.CertPool()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Account(b.Context()); err != nil {
		b.Fatal(err)
	}
}
