package acme

import (
	"crypto"
	"net/http"

	"github.com/go-acme/lego/v4/acme/api"
)

// carrier is the transport of one lego Core, which serves one exchange at a time.
type carrier struct {
	core *api.Core
	kid  string
	key  crypto.Signer
	dir  *cachedDirectory // that the Core has read
	x    *exchange
}

// RoundTrip implements http.RoundTripper.
func (k *carrier) RoundTrip(req *http.Request) (*http.Response, error) { return k.x.RoundTrip(req) }

// core returns a lego Core whose requests x carries until done is called. Those of
// an account are used again: to make one takes as long as to sign a request.
func (c *Client) core(x *exchange, kid string, key crypto.Signer) (core *api.Core, done func(), err error) {
	k := c.takeCarrier(kid, key)
	if k == nil {
		k = &carrier{kid: kid, key: key, dir: c.knownDirectory(), x: x}
		if k.core, err = api.New(&http.Client{Transport: k}, c.opts.UserAgent, c.directory.String(), kid, key); err != nil {
			return nil, nil, err
		}
	}
	k.x = x
	return k.core, func() { c.keepCarrier(k) }, nil
}

// takeCarrier returns an idle carrier of the account, nil if there is none.
func (c *Client) takeCarrier(kid string, key crypto.Signer) *carrier {
	dir := c.knownDirectory()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := len(c.carriers); n > 0; n = len(c.carriers) {
		k := c.carriers[n-1]
		c.carriers = c.carriers[:n-1]
		if k.kid == kid && k.key == key && k.dir == dir {
			return k
		} // else it is of another account, or its directory is old
	}
	return nil
}

func (c *Client) keepCarrier(k *carrier) {
	k.x = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.kid != "" && k.dir != nil && len(c.carriers) < maxAtOnce { // lego changes the Core that registers
		c.carriers = append(c.carriers, k)
	}
}
