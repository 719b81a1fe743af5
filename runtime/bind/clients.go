package bind

import (
	"sync"

	"moonseal/runtime/account"
	"moonseal/runtime/grant"
)

// Clients keeps a module's clients, one for each run and description of the other side,
// so that the steps of a run share connections and what was found out. The zero value is
// ready to use. It is safe for concurrent use.
type Clients[D comparable, C interface{ Close() }] struct {
	mu   sync.Mutex
	open map[clientKey[D]]C
}

type clientKey[D comparable] struct {
	run     string
	network *grant.Network
	store   *account.Store
	of      D
}

// mostClients bounds a process that serves many runs; a run has a few.
const mostClients = 256

// Get returns the client that the call's run has for of, or else the one that open makes.
func (s *Clients[D, C]) Get(c *Call, of D, open func() (C, error)) (C, error) {
	key := clientKey[D]{run: c.Run, network: c.Network, store: c.Account, of: of}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.open[key]; ok {
		return known, nil
	}
	made, err := open()
	if err != nil {
		return made, err
	}
	if len(s.open) >= mostClients {
		for _, old := range s.open {
			old.Close()
		}
		clear(s.open)
	}
	if s.open == nil {
		s.open = map[clientKey[D]]C{}
	}
	s.open[key] = made
	return made, nil
}
