package cucmtest

import "fmt"

// What another administrator does on a node, past its API: the ledger knows
// nothing of it.

// GenerateCSR makes a CSR for a service, as another administrator does. It
// replaces a pending one. The key is ECDSA, to be quick.
func (n *Node) GenerateCSR(service string) (pemText string, err error) {
	q := csrRequest{Service: service, Distribution: "this-server", KeyType: "ec"}
	if refused := n.checkCSR(&q, false); refused != nil {
		return "", fmt.Errorf("cucmtest: %s", refused.messages[0])
	}
	p, err := n.generate(q, false)
	if err != nil {
		return "", fmt.Errorf("cucmtest: %w", err)
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.pending[service] = p
	return p.pem, nil
}

// DropCSR deletes a service's pending CSR with its key and reports whether there was one.
func (n *Node) DropCSR(service string) bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	had := n.pending[service] != nil
	delete(n.pending, service)
	return had
}

// Restart restarts a service and waits until it is over.
func (n *Node) Restart(service string) error {
	s := n.findService(service)
	if s == nil {
		return fmt.Errorf("cucmtest: %s has no service %q", n.fqdn, service)
	}
	r := n.begin(s)
	if <-r.done; !r.ok {
		return fmt.Errorf("cucmtest: %s did not start again", service)
	}
	return nil
}

// RemoveTrust removes the certificate of a common name, or all if it is "", from the
// trust store of a service of this node alone, and returns how many there were.
func (n *Node) RemoveTrust(service, commonName string) (int, error) {
	if refused := n.checkService(service); refused != nil {
		return 0, fmt.Errorf("cucmtest: %s", refused.messages[0])
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	store, removed := n.trust[trustOf(service)], 0
	for name := range store {
		if commonName == "" || name == commonName {
			delete(store, name)
			removed++
		}
	}
	return removed, nil
}

// PendingCSRs returns all pending CSRs, service -> PEM.
func (n *Node) PendingCSRs() map[string]string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	out := map[string]string{}
	for service, p := range n.pending {
		out[service] = p.pem
	}
	return out
}
