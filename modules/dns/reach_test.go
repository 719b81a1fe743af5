package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// gate holds the attempts to reach servers until each of its zones has one, and then
// refuses them all.
type gate struct {
	attempts attemptCount
	open     chan struct{}

	mu    sync.Mutex
	zones map[string]bool // those that were not tried yet
	late  bool            // an attempt ended before that
}

func newGate(zones []string) *gate {
	g := &gate{open: make(chan struct{}), zones: map[string]bool{}}
	for _, zone := range zones {
		g.zones[zone] = true
	}
	return g
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.attempts.add(network + " " + addr)
	_, zone, _ := strings.Cut(strings.TrimSuffix(addr, ":53"), ".")
	g.mu.Lock()
	if g.zones[zone] {
		delete(g.zones, zone)
		if len(g.zones) == 0 {
			close(g.open)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-ctx.Done():
		g.mu.Lock()
		g.late = g.late || len(g.zones) > 0
		g.mu.Unlock()
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
}

// Several zones are behind a firewall, side by side, at the end of CNAMEs, or below one
// whose servers know them too: that is found out of all of them at once, and once of each.
func TestBlockedZonesAreFoundOutTogether(t *testing.T) {
	const belowOne, byCNAMEs = "below one", "by CNAMEs"
	for layout, tt := range map[string]struct {
		open    []string
		blocked []string
		names   []string
	}{
		"side by side": {nil, []string{"example.com", "example.net", "example.org"}, []string{"a.example.com", "b.example.com", "a.example.net", "b.example.net", "a.example.org", "b.example.org"}},
		belowOne: {
			[]string{"example.com"},
			[]string{"x.example.com", "y.example.com", "z.example.com"},
			[]string{"a.x.example.com", "b.x.example.com", "a.y.example.com", "b.y.example.com", "a.z.example.com", "b.z.example.com"},
		},
		byCNAMEs: {[]string{"example.com"}, []string{"x.test", "y.test", "z.test"}, []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com", "e.example.com", "f.example.com"}},
	} {
		calls := []string{"check", "present", "propagated", "look"}
		if layout == belowOne { // nothing else comes to their servers
			calls = calls[3:]
		}
		for _, call := range calls {
			t.Run(call+", "+layout, func(t *testing.T) {
				t.Parallel()
				s := newScript(t, dnstest.Options{Zones: append(slices.Clone(tt.open), tt.blocked...)})
				z, g := zoneAt("cloudflare"), newGate(tt.blocked)
				z.Name = ""
				var want []Challenge
				for i, name := range tt.names {
					want = append(want, challenge(name, digestA))
					if layout == byCNAMEs {
						s.add("_acme-challenge."+name, "CNAME", fmt.Sprintf("n%d.%s.", i, tt.blocked[i%3]))
					}
				}
				b := &binding{settings: &Settings{}}
				c := &bind.Call{Context: t.Context(), Network: s.net}
				client := s.fresh()
				client.opt.QueryTimeout = 5 * time.Second // for one that waits in vain at the gate
				client.opt.Ask = func(ctx context.Context, network, addr string) (net.Conn, error) {
					_, zone, _ := strings.Cut(strings.TrimSuffix(addr, ":53"), ".")
					if slices.Contains(tt.open, zone) {
						return s.Dial(ctx, network, addr)
					}
					return g.dial(ctx, network, addr)
				}
				_, err := b.clients.Get(c, none{}, func() (*Client, error) { return client, nil })
				if err != nil {
					t.Fatal(err)
				}
				switch call {
				case "check":
					_, err = client.Check(t.Context(), z, tt.names)
				case "present":
					_, _, err = client.LookPresent(t.Context(), z, want)
				case "propagated":
					_, _, err = client.Propagated(t.Context(), z, want, Propagation{})
				default:
					findings := b.examine(c, &z, tt.names)
					var blocked []string
					for _, f := range findings {
						if f.Error != nil {
							blocked, err = append(blocked, f.Error.Target), f.Error
						}
					}
					if len(slices.Compact(blocked)) != 3 {
						t.Errorf("%+v", findings)
					}
				}
				if e := problem.From(err); err == nil || e.Kind != problem.Unavailable || !strings.Contains(e.Error(), "is blocked from here") {
					t.Errorf("%+v", e)
				}
				if g.late || len(g.zones) > 0 {
					t.Errorf("an attempt was over before there was one at %v", slices.Sorted(maps.Keys(g.zones)))
				}
				for what, n := range g.attempts.n {
					if n > 1 {
						t.Errorf("%s: %d times", what, n)
					}
				}
			})
		}
	}
}
