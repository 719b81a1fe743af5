package cucmtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Node is one server of a Cluster.
type Node struct {
	c     *Cluster
	fqdn  string
	role  Role
	admin account

	web        *web
	sshd       net.Listener
	restarting chan struct{} // held by the restart that is under way

	// Guarded by c.mu.
	behavior   Behavior
	identities map[string]*identity   // by service: what is installed
	pending    map[string]*pendingCSR // by service
	trust      map[string]trustStore  // by trust store
	arrivals   []arrival
	services   []*service
	loaded     map[string]*identity // by service of the command line: tomcat's certificate when it last started
	hostKey    ssh.Signer
	legacyKey  ssh.Signer     // RSA, made when first needed
	failures   map[string]int // wrong passwords in a row, by user
}

type account struct{ user, password string }

func (a account) is(user, password string) bool {
	return a.user != "" &&
		subtle.ConstantTimeCompare([]byte(a.user), []byte(user))&
			subtle.ConstantTimeCompare([]byte(a.password), []byte(password)) == 1
}

// arrival is something that replication brings to a node at a later time.
type arrival struct {
	at    time.Time
	apply func()
}

const tomcat = "tomcat"

func newNode(c *Cluster, o NodeOptions, roots []*x509.Certificate) (*Node, error) {
	n := &Node{
		c:          c,
		fqdn:       strings.ToLower(o.Host) + "." + c.domain,
		role:       o.Role,
		admin:      account{o.Username, o.Password},
		restarting: make(chan struct{}, 1),
		behavior:   *o.Behavior,
		identities: map[string]*identity{},
		pending:    map[string]*pendingCSR{},
		trust:      map[string]trustStore{},
		loaded:     map[string]*identity{},
		failures:   map[string]int{},
	}
	for _, name := range certificateServices(o.Role) {
		id, err := selfSigned(n.fqdn, c.clock.Now(), o.Lifetime)
		if err != nil {
			return nil, err
		}
		if name == tomcat && o.Identity != nil {
			if id, err = identityOf(o.Identity); err != nil {
				return nil, err
			}
		}
		n.identities[name] = id
		store := trustStore{}
		for _, root := range roots {
			store.add(root)
		}
		n.trust[trustOf(name)] = store
	}
	n.services = platformServices(o.Role)
	for _, s := range n.services {
		if s.usesTomcat {
			n.loaded[s.name] = n.identities[tomcat]
		}
	}
	var err error
	n.hostKey, err = newHostKey()
	return n, err
}

func (n *Node) start() error {
	w, err := listenWeb(n)
	if err != nil {
		return err
	}
	n.web = w
	return n.startSSH()
}

func (n *Node) stop() {
	if n.web != nil {
		n.web.close()
	}
	if n.sshd != nil {
		_ = n.sshd.Close()
	}
}

// FQDN is the node's fully qualified name, in lower case.
func (n *Node) FQDN() string { return n.fqdn }

// Role is what the node does in its cluster.
func (n *Node) Role() Role { return n.role }

// RESTAddr is where the node's HTTPS listens (but for its outages), as
// "127.0.0.1:port". The cluster must have been started.
func (n *Node) RESTAddr() string { return n.web.addr }

// SSHAddr is where the node's SSH listens, as "127.0.0.1:port". The cluster
// must have been started.
func (n *Node) SSHAddr() string { return n.sshd.Addr().String() }

// Configure changes the node's behavior. An invalid change is an error and
// changes nothing.
func (n *Node) Configure(change func(*Behavior)) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	b := n.behavior
	change(&b)
	if err := b.check(); err != nil {
		return err
	}
	n.behavior = b
	return nil
}

// Behavior returns a copy of the node's behavior.
func (n *Node) Behavior() Behavior {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.behavior
}

// ServedSHA256 is the fingerprint of the certificate that HTTPS shows, as
// lower-case hex over the DER.
func (n *Node) ServedSHA256() string { return n.LoadedSHA256(ciscoTomcat) }

// LoadedSHA256 is the fingerprint of tomcat's certificate as a service, such as
// "Cisco UDS Tomcat", read it when it last started; "" for services that don't
// use it.
func (n *Node) LoadedSHA256(service string) string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.loaded[service].sha256()
}

// InstalledSHA256 is the fingerprint of tomcat's installed certificate, served
// or not.
func (n *Node) InstalledSHA256() string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	return n.identities[tomcat].sha256()
}

// PendingCSR is the PEM of a service's pending CSR; "" if there is none.
func (n *Node) PendingCSR(service string) string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if p := n.pending[service]; p != nil {
		return p.pem
	}
	return ""
}

// HostKeyFingerprint is the SSH host key as ssh-keygen prints it, "SHA256:…".
func (n *Node) HostKeyFingerprint() (string, error) {
	key, err := n.currentHostKey()
	if err != nil {
		return "", err
	}
	return ssh.FingerprintSHA256(key.PublicKey()), nil
}

// ChangeHostKey replaces the node's SSH host key, as a reinstallation does.
func (n *Node) ChangeHostKey() error {
	key, err := newHostKey()
	if err != nil {
		return err
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.hostKey, n.legacyKey = key, nil
	return nil
}

func (n *Node) currentHostKey() (ssh.Signer, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if !n.behavior.LegacySSHOnly {
		return n.hostKey, nil
	}
	if n.legacyKey == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return nil, err
		}
		n.legacyKey, err = ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA}) //nolint:forcetypeassert // an RSA key is one
		if err != nil {
			return nil, err
		}
	}
	return n.legacyKey, nil
}

// deliver applies what replication has brought by now. The caller holds c.mu.
func (n *Node) deliver() {
	now := n.c.clock.Now()
	rest := n.arrivals[:0]
	for _, a := range n.arrivals {
		if a.at.After(now) {
			rest = append(rest, a)
		} else {
			a.apply()
		}
	}
	n.arrivals = rest
}

// login checks a password, counts failures and notes the login. It returns the account's
// privilege (0 reads, 1 writes) and whether it may log in.
func (n *Node) login(via, user, password string) (privilege int, ok bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	switch {
	case n.behavior.LockAfter > 0 && n.failures[user] >= n.behavior.LockAfter:
	case n.admin.is(user, password):
		privilege, ok = 1, true
	case n.c.readOnly.is(user, password):
		ok = true
	}
	switch {
	case ok:
		delete(n.failures, user)
	case n.admin.user == user || n.c.readOnly.user == user:
		n.failures[user]++
	}
	n.c.noteLogin(Login{Node: n.fqdn, Via: via, User: user, OK: ok})
	return privilege, ok
}
