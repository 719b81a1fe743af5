package dns

import (
	"sync"
	"time"

	"moonseal/runtime/problem"
)

// memory is what a client has found out about zones and their servers.
type memory struct {
	mu      sync.Mutex
	servers map[string]found           // by resolvers and apex
	places  map[string]placed          // by zone description and name
	blocked map[string]unreachable     // by apex
	shown   map[string]map[string]bool // by value: the servers that have shown it, with its name
	asked   map[string]time.Time       // when a set of challenges was first asked about
	turns   map[string]*sync.Mutex     // held while something asks about it, see turn
}

type found struct {
	servers []server
	at      time.Time
}

type placed struct {
	place
	at time.Time
}

type unreachable struct {
	why *problem.Error
	at  time.Time
}

const (
	// keepFound is how long what was found holds: a run may continue for days.
	keepFound = 10 * time.Minute
	// keepBlocked is how long servers that cannot be reached are not asked again.
	keepBlocked = time.Minute
)

func newMemory() *memory {
	return &memory{
		servers: map[string]found{}, places: map[string]placed{}, blocked: map[string]unreachable{},
		shown: map[string]map[string]bool{}, asked: map[string]time.Time{}, turns: map[string]*sync.Mutex{},
	}
}

// turn waits until nothing else asks about what, and returns a function that ends the
// turn. The names of one zone take turns: the first finds out for the others that its
// servers cannot be reached, and no server is asked a hundred questions at once.
func (m *memory) turn(what string) (done func()) {
	m.mu.Lock()
	one := m.turns[what]
	if one == nil {
		one = &sync.Mutex{}
		m.turns[what] = one
	}
	m.mu.Unlock()
	one.Lock()
	return one.Unlock
}
