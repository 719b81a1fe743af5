package cucmtest

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/faults"
)

// Cluster is a running or not yet running cluster. Its methods are safe for
// concurrent use, but for Start and Close.
type Cluster struct {
	domain   string
	readOnly account
	faults   *faults.Set
	clock    clockwork.Clock
	log      *slog.Logger
	nodes    []*Node
	byName   map[string]*Node

	ctx    context.Context // ends at Close; what serves the cluster lives under it
	cancel context.CancelFunc
	wg     sync.WaitGroup
	spare  chan *rsa.PrivateKey

	mu     sync.Mutex // guards the ledger and all state of the nodes
	ledger Ledger
}

// New makes a cluster with self-signed certificates. It listens only once
// started.
func New(o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("cucmtest: %w", err)
	}
	c := &Cluster{
		domain:   strings.ToLower(o.Domain),
		readOnly: account{o.ReadOnlyUsername, o.ReadOnlyPassword},
		faults:   o.Faults,
		clock:    o.Clock,
		log:      o.Log,
		byName:   map[string]*Node{},
		spare:    make(chan *rsa.PrivateKey, max(o.SpareKeys, 0)),
	}
	if c.clock == nil {
		c.clock = clockwork.NewRealClock()
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	roots, err := parseAll(o.Trust)
	if err != nil {
		return nil, fmt.Errorf("cucmtest: trust: %w", err)
	}
	for i := range o.Nodes {
		if err := c.addNode(o, i, roots); err != nil {
			return nil, fmt.Errorf("cucmtest: %s: %w", o.Nodes[i].Host, err)
		}
	}
	return c, nil
}

func (c *Cluster) addNode(o Options, i int, roots []*x509.Certificate) error {
	opts := o.Nodes[i]
	if opts.Role == "" {
		opts.Role = Subscriber
		if i == 0 {
			opts.Role = Publisher
		}
	}
	if opts.Behavior == nil {
		opts.Behavior = &o.Behavior
	}
	if opts.Username == "" {
		opts.Username = o.Username
	}
	if opts.Password == "" {
		opts.Password = o.Password
	}
	n, err := newNode(c, opts, roots)
	if err != nil {
		return err
	}
	c.nodes = append(c.nodes, n)
	c.byName[n.fqdn] = n
	return nil
}

// Start opens the ports of all nodes. After an error the cluster is closed.
func (c *Cluster) Start() error {
	if cap(c.spare) > 0 {
		c.wg.Go(c.makeKeys)
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			c.Close()
			return fmt.Errorf("cucmtest: %s: %w", n.fqdn, err)
		}
	}
	return nil
}

// Close cuts all connections, ends restarts that are under way, and waits for all of
// it.
func (c *Cluster) Close() {
	c.cancel()
	for _, n := range c.nodes {
		n.stop()
	}
	c.wg.Wait()
}

// Node returns the node of a fully qualified name; nil if there is none.
func (c *Cluster) Node(fqdn string) *Node { return c.byName[strings.ToLower(fqdn)] }

// Nodes returns all nodes in the order of the options.
func (c *Cluster) Nodes() []*Node { return append([]*Node(nil), c.nodes...) }

// Addrs maps what a client would dial, "fqdn:443" and "fqdn:22", to the
// loopback addresses of a started cluster.
func (c *Cluster) Addrs() map[string]string {
	out := map[string]string{}
	for _, n := range c.nodes {
		out[n.fqdn+":443"] = n.RESTAddr()
		out[n.fqdn+":22"] = n.SSHAddr()
	}
	return out
}

// Configure changes the behavior of all nodes. An invalid change is an error,
// and the nodes before the one that it did not suit have it.
func (c *Cluster) Configure(change func(*Behavior)) error {
	for _, n := range c.nodes {
		if err := n.Configure(change); err != nil {
			return err
		}
	}
	return nil
}
