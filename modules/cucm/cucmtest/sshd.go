package cucmtest

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"moonseal/modules/faults"
)

// handshakeLimit bounds what a client may take to log in, in real time.
const handshakeLimit = 60 * time.Second

func (n *Node) startSSH() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n.sshd = listener
	n.c.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.c.wg.Go(func() { n.serveSSH(conn) })
		}
	})
	return nil
}

// serveSSH serves one connection, until the client is gone or the cluster is
// closed.
func (n *Node) serveSSH(raw net.Conn) {
	ctx, cancel := context.WithCancel(n.c.ctx)
	defer cancel()
	conn := watch(raw, cancel)
	defer conn.wait()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	err := n.c.faults.Do(ctx, CallSSHLogin, func() error { return nil })
	if status, ok := errors.AsType[*faults.StatusError](err); ok {
		_, _ = io.WriteString(conn, status.Body+"\r\n")
		return
	}
	if err != nil {
		conn.cut()
		return
	}
	config, err := n.sshConfig()
	if err != nil {
		n.logged("no host key", err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeLimit))
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		n.c.log.Debug("ssh handshake failed", "node", n.fqdn, "error", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	n.serveChannels(ctx, conn, server, channels, requests)
}

func (n *Node) serveChannels(ctx context.Context, conn *watchedConn, server *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(requests) })
	privilege := 0
	if server.Permissions.Extensions["privilege"] == "1" {
		privilege = 1
	}
	for next := range channels {
		if next.ChannelType() != "session" {
			_ = next.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		channel, requests, err := next.Accept()
		if err != nil {
			continue
		}
		wg.Go(func() { n.serveSession(ctx, conn, privilege, channel, requests) })
	}
}

// sshConfig is the server's side of the handshake for the node's behavior now.
func (n *Node) sshConfig() (*ssh.ServerConfig, error) {
	b := n.Behavior()
	key, err := n.currentHostKey()
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-OpenSSH_8.0"}
	config.AddHostKey(key)
	if b.LegacySSHOnly {
		config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDHGEXSHA1}
		config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
		config.MACs = []string{ssh.HMACSHA1}
	}
	if !b.NoPassword {
		config.PasswordCallback = func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return n.admit(meta.User(), string(password))
		}
	}
	if !b.NoKeyboard {
		config.KeyboardInteractiveCallback = func(meta ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil {
				return nil, err
			}
			if len(answers) != 1 {
				return nil, errors.New("one answer expected")
			}
			return n.admit(meta.User(), answers[0])
		}
	}
	return config, nil
}

func (n *Node) admit(user, password string) (*ssh.Permissions, error) {
	privilege, ok := n.login(ViaSSH, user, password)
	if !ok {
		return nil, errors.New("permission denied")
	}
	return &ssh.Permissions{Extensions: map[string]string{"privilege": strconv.Itoa(privilege)}}, nil
}

// serveSession serves the requests of one session; it has one shell at most.
func (n *Node) serveSession(ctx context.Context, conn *watchedConn, privilege int, channel ssh.Channel, requests <-chan *ssh.Request) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx) // ends with the session, though its connection may stay
	defer cancel()
	defer channel.Close() //nolint:errcheck // there is nothing to report it to
	t := newTerminal(n.c.clock, channel, n.Behavior())
	running := false
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			ok = t.openPTY(r.Payload)
		case "window-change":
			ok = t.resize(r.Payload)
		case "env":
			ok = true
		case "shell":
			if ok = !running; ok {
				running = true
				wg.Go(func() { n.runShell(ctx, conn, privilege, channel, t) })
			}
		}
		// There is no exec: the platform has nothing but its own shell.
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
}
