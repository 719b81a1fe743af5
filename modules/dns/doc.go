// Package dns writes, watches and removes the TXT records that prove the control
// of a name (RFC 8555 section 8.4).
//
// A challenge's record goes to where a CNAME of its name leads, so that a zone
// can be kept for challenges alone.
//
// # Providers
//
// All four are reached through their libdns packages, and all of them through the
// dialer, the roots and the transport that the client was given:
//
//   - libdns/cloudflare takes an HTTP client.
//   - libdns/rfc2136 dials by itself: a loopback port leads to our connection.
//   - libdns/digitalocean has no option for its client (godo.NewFromToken reads
//     the process's proxy and roots, and sends a lost POST up to four times again,
//     which doubles records), and libdns/route53 none but AWS's environment and
//     files, over which it ends the process (log.Fatalf). Both keep their SDK's
//     client in a field that they fill on first use; this package fills it before
//     ([unexported]). Neither reads any environment then, or tries again by itself.
//
// The Route 53 API changes whole record sets, and its library writes what it read back
// over whatever is there by then; its lock holds for one process, while each of our runs
// is one. So its write is turned into a swap, from what was read to what is wanted, which
// Route 53 refuses as a whole if the set has changed by then, and the call is made again.
// That holds between machines too, which a file lock would not. Which hosted zone has a
// name is asked of the SDK: the library looks at one of several only.
//
// DigitalOcean deletes by id only. The ids are in the records; what is removed are
// all records of the exact value, by the ids that they have at that time.
//
// # Names and addresses
//
// Zones are found from the parent down: the resolvers name the servers of a zone
// above the name, and those servers refer to the zone itself. No caching resolver is
// asked for a name before it is published, because it would remember the absence;
// the one exception is a name that has to be an alias, because it is in another zone
// than the one that is written to, and whose servers cannot be reached.
//
// A server is dialled by its name, so that a name which the dialer maps elsewhere
// gets there; the dialer resolves it through this machine's resolvers, not through
// the zone's. Over UDP its IPv4 address is asked first and its IPv6 address soon
// after, since every address "works" there; then it is asked over TCP.
//
// # Retries
//
// No provider is asked again by this package but for that one case: a Route 53 record set
// that another client changed in between.
package dns
