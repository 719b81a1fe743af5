package dnstest

import (
	"sync"
	"time"
)

// negativeCache remembers absence, as resolvers do (RFC 2308).
type negativeCache struct {
	mu    sync.Mutex
	ttl   time.Duration // nothing is cached when 0
	until map[string]negativeAnswer
}

func (c *negativeCache) get(key string, now time.Time) (negativeAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.until[key]
	if ok && !now.Before(a.until) {
		delete(c.until, key)
		return negativeAnswer{}, false
	}
	return a, ok
}

func (c *negativeCache) put(key string, a negativeAnswer) {
	if c.ttl == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until[key] = a
}
