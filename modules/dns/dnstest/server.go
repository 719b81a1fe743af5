package dnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"moonseal/modules/faults"
)

// answerer returns a name server's answer to a question. A nil answer cuts the
// connection, or says nothing over UDP.
type answerer interface {
	answer(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) *dns.Msg
}

// nameServer serves one answerer over UDP and TCP on one port.
type nameServer struct {
	addr  string
	ctx   context.Context // ends with the world
	who   answerer
	conns watched
	udp   *dns.Server
	tcp   *dns.Server
}

// udpPatience bounds how long a question over UDP is held: its client cannot be
// seen going away.
const udpPatience = 10 * time.Second

func startNameServer(ctx context.Context, owned *sync.WaitGroup, who answerer, cred Credentials) (*nameServer, error) {
	l, pc, err := listenBoth()
	if err != nil {
		return nil, err
	}
	s := &nameServer{addr: l.Addr().String(), ctx: ctx, who: who}
	s.conns.byPeer = map[string]context.Context{}
	secrets := map[string]string{dns.CanonicalName(cred.TSIGName): cred.TSIGSecret, strings.ToUpper(dns.CanonicalName(cred.TSIGName)): cred.TSIGSecret}
	s.udp = &dns.Server{PacketConn: pc, UDPSize: dns.DefaultMsgSize}
	s.tcp = &dns.Server{Listener: &watchedListener{Listener: l, ctx: ctx, owned: owned, conns: &s.conns}}
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		srv.Handler, srv.TsigSecret, srv.MsgAcceptFunc = dns.HandlerFunc(s.serve), secrets, acceptMsg
		srv.NotifyStartedFunc = func() { close(started) }
		failed := make(chan error, 1)
		owned.Go(func() { failed <- srv.ActivateAndServe() })
		select {
		case <-started:
		case err := <-failed:
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// listenBoth takes a port that is free for TCP and for UDP.
func listenBoth() (net.Listener, net.PacketConn, error) {
	var last error
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp4", l.Addr().String())
		if err == nil {
			return l, pc, nil
		}
		last = errors.Join(err, l.Close())
	}
	return nil, nil, fmt.Errorf("no port is free for both TCP and UDP: %w", last)
}

func (s *nameServer) close() {
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		if srv.Shutdown() != nil { // not started
			if srv.Listener != nil {
				_ = srv.Listener.Close()
			}
			if srv.PacketConn != nil {
				_ = srv.PacketConn.Close()
			}
		}
	}
}

// acceptMsg lets updates through, which the library's own function does not.
func acceptMsg(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	switch opcode := int(h.Bits>>11) & 0xF; {
	case h.Bits&response != 0:
		return dns.MsgIgnore
	case opcode == dns.OpcodeUpdate:
		return dns.MsgAccept
	default:
		return dns.DefaultMsgAcceptFunc(h)
	}
}

func (s *nameServer) serve(w dns.ResponseWriter, q *dns.Msg) {
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	ctx := s.ctx
	if overTCP {
		ctx = s.conns.context(ctx, w.RemoteAddr())
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, udpPatience)
		defer cancel()
	}
	a := s.who.answer(ctx, w, q)
	if a == nil {
		if overTCP {
			_ = w.Close()
		}
		return
	}
	if !overTCP {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		a.Truncate(size)
	}
	_ = w.WriteMsg(a) // a server ignores that its client is gone
}

// faulty runs work under the faults of calls, outermost first.
func faulty(ctx context.Context, set *faults.Set, q *dns.Msg, work func() *dns.Msg, calls ...string) *dns.Msg {
	var a *dns.Msg
	run := func() error { a = work(); return nil }
	for _, call := range calls {
		inner := run
		run = func() error { return set.Do(ctx, call, inner) }
	}
	err := run()
	var status *faults.StatusError
	switch {
	case err == nil:
		return a
	case errors.As(err, &status):
		rcode := dns.RcodeServerFailure
		if status.Code < 24 {
			rcode = status.Code
		}
		return new(dns.Msg).SetRcode(q, rcode)
	default:
		return nil
	}
}

// watched knows for each TCP client a context that ends when it goes away.
type watched struct {
	mu     sync.Mutex
	byPeer map[string]context.Context
}

func (c *watched) context(otherwise context.Context, peer net.Addr) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx, ok := c.byPeer[peer.String()]; ok {
		return ctx
	}
	return otherwise
}

// watchedListener reads each connection ahead, because a server that works on a
// message would otherwise not see its client go away.
type watchedListener struct {
	net.Listener
	ctx   context.Context
	owned *sync.WaitGroup
	conns *watched
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(l.ctx)
	peer := c.RemoteAddr().String()
	l.conns.mu.Lock()
	l.conns.byPeer[peer] = ctx //nolint:fatcontext // one for each connection, and forgotten with it
	l.conns.mu.Unlock()
	near, far := net.Pipe()
	l.owned.Go(func() {
		defer l.conns.forget(peer)
		defer cancel()
		defer func() { _ = far.Close() }()
		pump(c, far)
	})
	return &watchedConn{Conn: c, read: near}, nil
}

func (c *watched) forget(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byPeer, peer)
}

// pump copies from a client to its server through a queue of a few reads, so
// that reading is not held up while the server works.
func pump(from net.Conn, to net.Conn) {
	const most = 64
	chunks := make(chan []byte, most)
	var writer sync.WaitGroup
	writer.Go(func() {
		for b := range chunks {
			if _, err := to.Write(b); err != nil {
				_ = from.Close()
			}
		}
	})
	for {
		b := make([]byte, 4096)
		n, err := from.Read(b)
		if n > 0 {
			chunks <- b[:n]
		}
		if err != nil {
			break
		}
	}
	close(chunks)
	_ = to.Close()
	writer.Wait()
}

type watchedConn struct {
	net.Conn
	read net.Conn
}

func (c *watchedConn) Read(b []byte) (int, error)         { return c.read.Read(b) }
func (c *watchedConn) SetReadDeadline(t time.Time) error  { return c.read.SetReadDeadline(t) }
func (c *watchedConn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(t) }
func (c *watchedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}
func (c *watchedConn) Close() error { return errors.Join(c.read.Close(), c.Conn.Close()) }

// callName returns the call of a question at server ns.
func callName(view int) string {
	if view == slowest {
		return "dns.query.resolver"
	}
	return fmt.Sprintf("dns.query.ns%d", view+1)
}

func sameName(a, b string) bool { return strings.EqualFold(dns.Fqdn(a), dns.Fqdn(b)) }
