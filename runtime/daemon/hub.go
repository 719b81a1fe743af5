package daemon

import (
	"sync"

	"moonseal/runtime/journal"
)

// hub passes the records of runs to their followers.
type hub struct {
	mu   sync.Mutex
	subs map[string]map[chan journal.Record]struct{}
}

// followerBuffer is how many records a slow follower may lag behind; beyond that it misses
// some. The journal has all of them.
const followerBuffer = 4096

func newHub() *hub { return &hub{subs: map[string]map[chan journal.Record]struct{}{}} }

func (h *hub) publish(rec journal.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.subs[rec.Stamped().Run] {
		select {
		case ch <- rec:
		default:
		}
	}
}

// subscribe returns the records of a run from now on, until stop is called.
func (h *hub) subscribe(run string) (records <-chan journal.Record, stop func()) {
	ch := make(chan journal.Record, followerBuffer)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[run] == nil {
		h.subs[run] = map[chan journal.Record]struct{}{}
	}
	h.subs[run][ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs[run], ch)
		if len(h.subs[run]) == 0 {
			delete(h.subs, run)
		}
	}
}
