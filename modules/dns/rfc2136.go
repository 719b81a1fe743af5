package dns

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libdns/libdns"
	"github.com/libdns/rfc2136"
	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// rfc2136Zone is a provider over libdns/rfc2136 (dynamic update signed with
// TSIG). A name's records are asked of the server, signed as updates are; only a whole
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
		return nil, &problem.Error{Kind: problem.Auth, Work: problem.NotDone, Message: "the value of " + z.Key.String() + " is not a valid TSIG key: it is not base64"}
	}
	server, err := withPort(z.Server)
	if err != nil {
		return nil, err
	}
	algorithm := z.KeyAlgorithm
	if algorithm == "" {
		algorithm = "hmac-sha256"
	}
	return &rfc2136Zone{c: c, server: server, lib: rfc2136.Provider{
		KeyName: mdns.CanonicalName(z.KeyName), KeyAlg: mdns.CanonicalName(algorithm), Key: key, // servers sign their answers under the canonical names (RFC 8945 section 4.3.3)
	}}, nil
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

// query asks for a name's records with the key that updates them: a hidden primary may
// answer signed questions only, and a view may be chosen by the key.
func (p *rfc2136Zone) query(ctx context.Context, apex, name, typ string) ([]Record, error) {
	a, err := p.signed(ctx, apex, name, mdns.StringToType[typ])
	if err != nil {
		return nil, err
	}
	out := []Record{}
	for _, rr := range a.Answer {
		out = append(out, fromRR(apex, rr))
	}
	return matching(out, name, typ), nil
}

// tsigFudge is by how many seconds clocks may differ (RFC 8945 section 10).
const tsigFudge = 300

// signed asks the server a question that the key signs.
func (p *rfc2136Zone) signed(ctx context.Context, apex, name string, qtype uint16) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.opt.RequestTimeout)
	defer cancel()
	conn, err := p.c.opt.Dial(ctx, "tcp", p.server)
	if err != nil {
		return nil, problem.At(problem.Network(err), "", p.server)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	q := new(mdns.Msg).SetQuestion(fqdn(name), qtype)
	q.RecursionDesired = false
	q.SetTsig(p.lib.KeyName, p.lib.KeyAlg, tsigFudge, time.Now().Unix()) //nolint:forbidigo // the library that checks the answer's signature asks no other clock
	client := mdns.Client{Net: "tcp", Timeout: p.c.opt.RequestTimeout, TsigSecret: map[string]string{p.lib.KeyName: p.lib.Key}}
	a, _, err := client.ExchangeWithConnContext(ctx, q, &mdns.Conn{Conn: conn})
	switch {
	case a != nil && a.Rcode != mdns.RcodeSuccess && a.Rcode != mdns.RcodeNameError:
		return nil, p.refused(apex, a)
	case err == nil && !answersTo(a, q):
		err = nonsense("it is to another question")
	}
	if err != nil {
		return nil, p.unclear(ctx, err)
	}
	return a, nil
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
	a := b.answer()
	switch {
	case a != nil && a.Rcode != mdns.RcodeSuccess && err != nil:
		return p.refused(apex, a)
	case err != nil:
		return p.unclear(ctx, err)
	case a == nil:
		return p.unclear(ctx, nonsense("it is not a DNS answer"))
	case a.IsTsig() == nil:
		return p.unclear(ctx, errors.New("the server's answer is not signed"))
	}
	return nil
}

// unclear is the problem of an exchange without an answer that counts. The request may
// have been sent, so what it asks for may have happened.
func (p *rfc2136Zone) unclear(ctx context.Context, err error) *problem.Error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	e := *problem.Network(err)
	e.Target = p.server
	bad := []error{mdns.ErrSig, mdns.ErrKey, mdns.ErrKeyAlg, mdns.ErrTime, mdns.ErrSecret, mdns.ErrNoSig, mdns.ErrAuth}
	_, isDNS := errors.AsType[*mdns.Error](err)
	switch {
	case slices.ContainsFunc(bad, func(one error) bool { return errors.Is(err, one) }):
		e.Message, e.Server = "the signature of the server's answer does not verify: "+err.Error(), ""
		e.Hint = "check key_name, key_algorithm and key, that both clocks agree within five minutes, and what stands between here and the server"
	case isDNS:
		e.Message = "the server's answer is malformed: " + err.Error()
	}
	return &e
}

// refused returns an RCODE of the server (RFC 2136 section 2.2, RFC 8945 section 5.2)
// as what it means.
func (p *rfc2136Zone) refused(apex string, a *mdns.Msg) *problem.Error {
	e := &problem.Error{Kind: problem.Refused, Target: p.server, Message: "the server refused", Server: rcodeName(a.Rcode), Work: problem.NotDone}
	if t := a.IsTsig(); t != nil && t.Error != mdns.RcodeSuccess {
		e.Server += ", " + rcodeName(int(t.Error))
	}
	for _, words := range extendedErrors(a) {
		e.Server += ", " + words
	}
	switch a.Rcode {
	case mdns.RcodeNotAuth:
		e.Kind, e.Message = problem.Auth, "the server does not accept the TSIG key, or does not serve the zone "+apex
		e.Hint = "check key_name, key_algorithm and key, the zone's name, and that server is its primary"
		if t := a.IsTsig(); t != nil && t.Error == mdns.RcodeBadTime {
			e.Message, e.Hint = "the server's clock and this machine's differ by more than five minutes", "set both clocks, such as by NTP"
		}
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

// extendedErrors returns what a server adds to its RCODE (RFC 8914).
func extendedErrors(a *mdns.Msg) []string {
	var out []string
	if opt := a.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*mdns.EDNS0_EDE); ok {
				out = append(out, strings.TrimSuffix(mdns.ExtendedErrorCodeToString[ede.InfoCode]+": "+ede.ExtraText, ": "))
			}
		}
	}
	return out
}

// bridge is a loopback port that leads to one connection of our dialer.
type bridge struct {
	addr string
	l    net.Listener
	far  net.Conn
	done sync.WaitGroup
	got  []byte // from far, at most a message
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
		_, _ = io.Copy(io.MultiWriter(keeping{b}, near), far)
		_ = near.Close()
		up.Wait()
	})
	return b, nil
}

func (b *bridge) close() {
	_ = errors.Join(b.far.Close(), b.l.Close())
	b.done.Wait()
}

// keeping keeps the first message of a bridge's far side: the library drops an answer
// whose signature it does not accept, and with it whether the server refused.
type keeping struct{ b *bridge }

func (k keeping) Write(p []byte) (int, error) {
	k.b.got = append(k.b.got, p[:min(len(p), 2+mdns.MaxMsgSize-len(k.b.got))]...)
	return len(p), nil
}

// answer returns the first message that came, nil if it was not whole. It is called
// after close.
func (b *bridge) answer() *mdns.Msg {
	if len(b.got) < 2 {
		return nil
	}
	size := int(binary.BigEndian.Uint16(b.got))
	a := new(mdns.Msg)
	if len(b.got) < 2+size || a.Unpack(b.got[2:2+size]) != nil || !a.Response {
		return nil
	}
	return a
}
