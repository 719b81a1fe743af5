package worker

import "sync"

// sessions are those whose runs are under way. The zero sessions is ready to use.
type sessions struct {
	mu  sync.Mutex
	all map[string]*session // by run
}

// add adds a session. remove removes it.
func (a *sessions) add(s *session) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]*session{}
	}
	a.all[s.run] = s
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.all[s.run] == s {
			delete(a.all, s.run)
		}
	}
}

// of returns the session of a run, nil if there is none.
func (a *sessions) of(run string) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[run]
}
