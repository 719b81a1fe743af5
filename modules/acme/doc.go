// Package acme gets certificates from an ACME CA (RFC 8555) for keys that another host
// holds, by DNS challenges, and knows when to renew (RFC 9773).
//
// All that goes in and comes out is plain data: each step may run in a process
// of its own, with the account's key in the Store and the order's URL in hand.
//
// # Requests
//
// A Client keeps the directory, nonces, connections, and what it last saw of each order,
// so that a fresh order costs seven POSTs and a reused authorization four. What was seen
// is used once: a call that meets a refusal, or runs in another process, looks first. A
// request is sent again for a rejected nonce (section 6.5), and for some minutes when the
// CA answers that it does not know a URL or an account that is new: its replicas follow
// one another late. Any other failure is the caller's to retry.
//
// # Errors
//
// All are *problem.Error; the CA's own document is a [Problem] in their chain.
//
// lego v4 signs and sends (its acme/api package); it appears here only.
package acme
