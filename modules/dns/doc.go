// Package dns writes, watches and removes the TXT records that prove the control
// of a name (RFC 8555 section 8.4).
//
//	c := dns.New(dns.Options{Dial: network.Dial, HTTP: transport, Secret: lookup})
//	plan, done, err := c.LookPresent(ctx, zone, challenges) // reads only
//	records, err := c.Present(ctx, zone, plan)              // writes what is missing
//	ok, reason, err := c.Propagated(ctx, zone, challenges, dns.Propagation{})
//	err = c.Remove(ctx, zone, challenges, records, nil)
//
// A challenge's record goes to where a CNAME of its name leads, so that a zone
// can be kept for challenges alone.
//
// # Providers
//
// Cloudflare and RFC 2136 are reached through their libdns packages. The ones for
// DigitalOcean and Route 53 make HTTP clients of their own: they pass by the
// dialer that grants are checked in, DigitalOcean's sends a lost POST again and so
// doubles records, and Route 53's ends the process over a bad AWS configuration
// and rewrites record sets under a lock that other processes do not share, while
// each of our runs is a process. So these two are small adapters here, over the
// same SDKs.
//
// # Names and addresses
//
// Zones are found by their SOA records and servers by their NS records, through
// the resolvers. A server is dialled by its name: the dialer resolves it, and takes
// the first of its addresses that works.
//
// # Retries
//
// No provider is asked again by this package but for one case: a Route 53 record
// set that someone else changed in between is read and changed anew.
package dns
