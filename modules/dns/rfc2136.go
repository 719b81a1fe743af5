package dns

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"

	"github.com/libdns/libdns"
	"github.com/libdns/rfc2136"
	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// rfc2136Zone is a provider over libdns/rfc2136 (dynamic update signed with
// TSIG). A name's records are asked of the server as anybody may; only a whole
// zone needs a transfer, which many servers refuse.
type rfc2136Zone struct {
	c      *Client
	server string
	lib    rfc2136.Provider
}

func newRFC2136(ctx context.Context, c *Client, z Zone) (provider, error) {
	key, err := c.token(ctx, z.Key)
	if err != nil {
		return nil, err
	}
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) == 0 {
		return nil, &problem.Error{Kind: problem.Auth, Work: problem.NotDone, Message: "the value of " + z.Key.String() + " is no TSIG key: it is not base64"}
	}
	server, err := withPort(z.Server)
	if err != nil {
		return nil, err
	}
	algorithm := z.KeyAlgorithm
	if algorithm == "" {
		algorithm = "hmac-sha256"
	}
	return &rfc2136Zone{c: c, server: server, lib: rfc2136.Provider{KeyName: z.KeyName, KeyAlg: algorithm, Key: key}}, nil
}

func (p *rfc2136Zone) list(ctx context.Context, apex, name, typ string) ([]Record, error) {
	if name != "" && mdns.StringToType[typ] != 0 {
		return p.query(ctx, apex, name, typ)
	}
	var all []libdns.Record
	err := p.call(ctx, apex, func(ctx context.Context, lib *rfc2136.Provider) (err error) {
		all, err = lib.GetRecords(ctx, fqdn(apex))
		return err
	})
	if err != nil {
		return nil, err
	}
	return matching(fromLibdns(apex, all), name, typ), nil
}

func (p *rfc2136Zone) query(ctx context.Context, apex, name, typ string) ([]Record, error) {
	a, err := p.c.ask(ctx, p.c.named(p.server), name, mdns.StringToType[typ], false)
	if err != nil {
		return nil, problem.At(problem.Network(err), "", p.server)
	}
	if a.Rcode != mdns.RcodeSuccess && a.Rcode != mdns.RcodeNameError {
		return nil, p.refused(apex, a.Rcode)
	}
	out := []Record{}
	for _, rr := range a.Answer {
		out = append(out, fromRR(apex, rr))
	}
	return matching(out, name, typ), nil
}

func (p *rfc2136Zone) add(ctx context.Context, apex string, records []Record) ([]Record, error) {
	return records, p.update(ctx, apex, records, func(ctx context.Context, lib *rfc2136.Provider, all []libdns.Record) error {
		_, err := lib.AppendRecords(ctx, fqdn(apex), all)
		return err
	})
}

func (p *rfc2136Zone) remove(ctx context.Context, apex string, records []Record) error {
	return p.update(ctx, apex, records, func(ctx context.Context, lib *rfc2136.Provider, all []libdns.Record) error {
		_, err := lib.DeleteRecords(ctx, fqdn(apex), all)
		return err
	})
}

// update sends all records in one message: a server takes it whole or not.
func (p *rfc2136Zone) update(ctx context.Context, apex string, records []Record, send func(context.Context, *rfc2136.Provider, []libdns.Record) error) error {
	var all []libdns.Record
	for _, r := range records {
		all = append(all, toLibdns(r)...)
	}
	if len(all) == 0 {
		return nil
	}
	err := p.call(ctx, apex, func(ctx context.Context, lib *rfc2136.Provider) error { return send(ctx, lib, all) })
	if err != nil {
		return err
	}
	return nil
}

// call runs one call of the library, which dials by itself, over a bridge to our
// dialer. It makes one connection.
func (p *rfc2136Zone) call(ctx context.Context, apex string, do func(context.Context, *rfc2136.Provider) error) *problem.Error {
	ctx, cancel := context.WithTimeout(ctx, p.c.opt.RequestTimeout)
	defer cancel()
	b, err := openBridge(ctx, p.c.opt.Dial, p.server)
	if err != nil {
		return problem.From(problem.At(problem.Network(err), "", p.server))
	}
	lib := p.lib
	lib.Server = b.addr
	err = recovered(func() error { return do(ctx, &lib) })
	b.close()
	if err == nil {
		return nil
	}
	return p.problemOf(ctx, apex, err)
}

var rcodeText = regexp.MustCompile(`dns response error code "[A-Z0-9]+" \((\d+)\)`)

func (p *rfc2136Zone) problemOf(ctx context.Context, apex string, err error) *problem.Error {
	if errors.Is(err, mdns.ErrAuth) { // the library's word for a signed NOTAUTH
		return p.refused(apex, mdns.RcodeNotAuth)
	}
	for _, bad := range []error{mdns.ErrSig, mdns.ErrKey, mdns.ErrKeyAlg, mdns.ErrTime, mdns.ErrSecret} {
		if errors.Is(err, bad) {
			return &problem.Error{
				Kind: problem.Auth, Target: p.server, Work: problem.NotDone, Message: "the server does not accept the TSIG key", Server: err.Error(), Cause: err,
				Hint: "check key_name, key_algorithm and key, and that both clocks agree within five minutes",
			}
		}
	}
	if m := rcodeText.FindStringSubmatch(err.Error()); m != nil {
		code, _ := strconv.Atoi(m[1]) // digits by the expression
		return p.refused(apex, code)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return problem.From(problem.At(problem.Network(err), "", p.server))
}

// refused gives an RCODE of the server (RFC 2136 section 2.2) as what it means.
func (p *rfc2136Zone) refused(apex string, rcode int) *problem.Error {
	e := &problem.Error{Kind: problem.Refused, Target: p.server, Message: "the server refused", Server: mdns.RcodeToString[rcode], Work: problem.NotDone}
	switch rcode {
	case mdns.RcodeNotAuth:
		e.Kind, e.Message = problem.Auth, "the server does not accept the TSIG key, or does not serve the zone "+apex
		e.Hint = "check key_name, key_algorithm and key, the zone's name, and that server is its primary"
	case mdns.RcodeRefused:
		e.Kind, e.Message = problem.Auth, "the server does not let this key do that in the zone "+apex
		e.Hint = "check the server's update and transfer policy for the key"
	case mdns.RcodeNotZone:
		e.Kind, e.Message = problem.Mismatch, "a name is outside of the zone "+apex
	case mdns.RcodeServerFailure:
		e.Kind, e.Message, e.Work = problem.Unavailable, "the server failed", problem.Unknown
	}
	return e
}

// bridge is a loopback port that leads to one connection of our dialer.
type bridge struct {
	addr string
	l    net.Listener
	far  net.Conn
	done sync.WaitGroup
}

func openBridge(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), server string) (*bridge, error) {
	far, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, far.Close())
	}
	b := &bridge{addr: l.Addr().String(), l: l, far: far}
	stop := context.AfterFunc(ctx, func() { _ = errors.Join(far.Close(), l.Close()) })
	b.done.Go(func() {
		defer stop()
		near, err := l.Accept()
		if err != nil {
			return
		}
		var up sync.WaitGroup
		up.Go(func() {
			_, _ = io.Copy(far, near)
			_ = far.Close()
		})
		_, _ = io.Copy(near, far)
		_ = near.Close()
		up.Wait()
	})
	return b, nil
}

func (b *bridge) close() {
	_ = errors.Join(b.far.Close(), b.l.Close())
	b.done.Wait()
}
