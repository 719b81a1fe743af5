// Package cucm is a client for the certificate management of one node of a
// Cisco Unified Communications Manager cluster, or of one of its siblings (IM
// and Presence, Unity Connection, Emergency Responder): the REST API of release
// 14 and later, and the platform's command line over SSH for restarts.
//
// # Changes
//
// Generating a CSR, uploading a certificate and restarting services each come in pieces,
// all of which take and return plain data, so that another process can continue where one
// was killed: Look… reads and checks, the change itself follows, and Probe… finds out
// whether a change whose answer was lost has happened.
//
// # Trust
//
// A node's certificate is trusted when its fingerprint is pinned, or when it verifies
// against the roots. Between upload and restart the old and the new fingerprint are both
// accepted; [Client.Serves] moves the pin on once the new one is served. [Options.OnPins]
// is called with each change, to store it.
//
// # Sources
//
// Cisco's "Certificate Management REST API" (release 14) and "Certificate
// Regeneration Process for CUCM", and what working public clients send.
package cucm
