package ssh

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

// HostKey returns the fingerprint ("SHA256:…") of the key with which addr (host:port)
// identifies itself. It verifies nothing and does not log in; the caller shows the
// fingerprint. dial may be nil.
func HostKey(ctx context.Context, addr string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (string, error) {
	c := Config{Addr: addr, Dial: dial, Legacy: true}.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var seen string
	stop := errors.New("host key seen")
	cfg := &xssh.ClientConfig{HostKeyCallback: func(_ string, _ net.Addr, key xssh.PublicKey) error {
		seen = xssh.FingerprintSHA256(key)
		return stop
	}}
	algorithms(cfg, c.Legacy)
	client, err := handshake(ctx, c, cfg, &login{})
	if err == nil {
		_ = client.Close()
	}
	if seen == "" {
		return "", notDone(new(login).failed(err), c)
	}
	return seen, nil
}

// verifier checks a host key against the pinned fingerprints.
type verifier struct {
	trust string // the command that pins a key
	pins  []string
	err   *problem.Error
}

func (v *verifier) check(_ string, _ net.Addr, key xssh.PublicKey) error {
	seen := xssh.FingerprintSHA256(key)
	if slices.Contains(v.pins, seen) {
		v.err = nil
		return nil
	}
	v.err = &problem.Error{
		Kind: problem.Untrusted, Message: "no SSH host key is pinned; the host shows " + seen + " (" + key.Type() + ")",
		Hint: "compare it with the host's own, then run: " + v.trust,
	}
	if len(v.pins) > 0 {
		v.err.Message = "another SSH host key than is pinned: expected " + strings.Join(v.pins, " or ") + ", seen " + seen + " (" + key.Type() + ")"
		v.err.Hint = "if the host was reinstalled, compare the key with the host's own, then run: " + v.trust
	}
	return v.err
}

// families groups host key algorithms by the kind of key: a host has one key
// of each, and any one of them may be the pinned one.
func families(all []string) [][]string {
	kinds := []string{"ed25519", "ecdsa", "rsa"}
	out := [][]string{all}
	for _, kind := range kinds {
		if f := slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !strings.Contains(a, kind) }); len(f) > 0 {
			out = append(out, f)
		}
	}
	return out
}
