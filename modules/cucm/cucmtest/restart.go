package cucmtest

import "time"

// restart is one restart of a service. Once started it continues to its end, with
// or without the session that asked for it.
type restart struct {
	down chan struct{} // closed once the service is down
	done chan struct{} // closed once it is over
	ok   bool          // valid once done
}

// restart starts to restart s. Restarts of one node run one after the other.
func (n *Node) restart(s *service) *restart {
	n.c.mu.Lock()
	n.c.ledger.Restarts = append(n.c.ledger.Restarts, Restart{Node: n.fqdn, Service: s.name, At: n.c.clock.Now()})
	n.c.mu.Unlock()
	return n.begin(s)
}

func (n *Node) begin(s *service) *restart {
	r := &restart{down: make(chan struct{}), done: make(chan struct{})}
	n.c.log.Info("service restarts", "node", n.fqdn, "service", s.name)
	n.c.wg.Go(func() {
		defer close(r.done)
		select {
		case n.restarting <- struct{}{}:
			defer func() { <-n.restarting }()
			r.ok = n.runRestart(s, r.down)
		case <-n.c.ctx.Done():
			close(r.down)
		}
	})
	return r
}

func (n *Node) runRestart(s *service, down chan struct{}) (ok bool) {
	n.c.mu.Lock()
	s.status, s.note = starting, ""
	b := n.behavior
	fail := b.FailRestarts > 0
	if fail {
		n.behavior.FailRestarts--
	}
	n.c.mu.Unlock()
	isWeb := s.name == ciscoTomcat
	if isWeb {
		n.web.down()
		n.logged("cannot show the outage", n.web.outage(b.Outage))
	}
	close(down)
	if !n.wait(b.restartTime(s.name)) {
		return false
	}
	if isWeb {
		n.web.down()
	}
	n.endRestart(s, fail)
	if isWeb && !fail {
		n.logged("cannot serve again", n.web.up(n.api(), n.handshake))
	}
	return !fail
}

// endRestart is the moment at which the new process has read its files.
func (n *Node) endRestart(s *service, failed bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	s.status = started
	if failed {
		s.status = stopped
		return
	}
	n.deliver()
	if s.usesTomcat && n.behavior.AfterRestart != OldCertificate {
		n.loaded[s.name] = n.identities[tomcat]
	}
}

func (b Behavior) restartTime(service string) time.Duration {
	switch service {
	case ciscoTomcat:
		return b.RestartOutage
	case "Cisco UDS Tomcat", "Cisco AXL Tomcat":
		return b.ServiceRestart + b.TomcatLag
	}
	return b.ServiceRestart
}

// wait lets d pass on the cluster's clock; false if the cluster was closed meanwhile.
func (n *Node) wait(d time.Duration) bool {
	if d <= 0 {
		return n.c.ctx.Err() == nil
	}
	t := n.c.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-n.c.ctx.Done():
		return false
	}
}

func (n *Node) logged(what string, err error) {
	if err != nil && n.c.ctx.Err() == nil {
		n.c.log.Error(what, "node", n.fqdn, "error", err)
	}
}
