package account

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"moonseal/runtime/problem"
)

// hostName returns host in the canonical form that names its folder: lower case, without a
// trailing dot. It refuses what is neither a DNS name nor an IP address.
func hostName(host string) (string, error) {
	h := strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(h); err == nil && addr.Zone() == "" {
		return addr.String(), nil
	}
	if len(h) == 0 || len(h) > 253 {
		return "", badName("host", host, "a DNS name or an IP address")
	}
	for label := range strings.SplitSeq(h, ".") {
		if !isWord(label, 63, "-_") || label[0] == '_' || label[0] == '-' {
			return "", badName("host", host, "a DNS name or an IP address")
		}
	}
	return h, nil
}

// caName is hostName for a CA's host, which may have a port.
func caName(ca string) (string, error) {
	host, port, err := net.SplitHostPort(ca)
	if err != nil {
		return hostName(ca)
	}
	name, err := hostName(host)
	if err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", badName("CA", ca, "a host, or host:port")
	}
	return name + ":" + port, nil
}

// directoryName returns the folders of a CA's directory: that of its host, and below it
// one for the rest of its URL.
func directoryName(directory string) (host, folder string, err error) {
	u, err := url.Parse(directory)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", "", badName("ACME directory", directory, "an https URL")
	}
	if host, err = caName(u.Host); err != nil {
		return "", "", err
	}
	return host, fileName(strings.TrimPrefix(u.RequestURI(), "/")), nil
}

// holderName returns the name of a holder's files: its e-mail address, and its binding
// after a comma, which no address has.
func holderName(holder Holder) (string, error) {
	name, err := emailName(holder.Email)
	if err != nil || holder.KeyID == "" {
		return name, err
	}
	return name + "," + fileName(holder.KeyID), nil
}

// longestName leaves room for an e-mail address of 200 bytes and an extension beside
// it: file systems allow 255.
const longestName = 44

// fileName returns text as the name of a file, a different one for each text. A long text
// is named by its hash, which no short one can equal: that has no "%_".
func fileName(text string) string {
	name := url.PathEscape(text)
	switch {
	case name == "":
		return "%_"
	case len(name) > longestName:
		sum := sha256.Sum256([]byte(text))
		return "%_" + hex.EncodeToString(sum[:16])
	case name[0] == '.':
		return "%2E" + name[1:]
	}
	return name
}

// noAddress names the account of a CA without an e-mail address. It is not an address
// itself, since it has no @.
const noAddress = "no-address"

func emailName(email string) (string, error) {
	if email == "" {
		return noAddress, nil
	}
	e := strings.ToLower(email)
	user, domain, ok := strings.Cut(e, "@")
	if !ok || len(e) > 200 || !isWord(user, 64, "!#$%&'*+-=?^_`{|}~.") || user[0] == '.' {
		return "", badName("e-mail address", email, "user@domain")
	}
	if _, err := hostName(domain); err != nil {
		return "", badName("e-mail address", email, "user@domain")
	}
	return e, nil
}

// checkWord refuses what cannot be one folder's name, such as a service's
// ("tomcat-ECDSA") or a tenant's.
func checkWord(what, s string) error {
	if !isWord(s, 64, "-_") || s[0] == '_' || s[0] == '-' {
		return badName(what, s, "letters, digits, - and _, beginning with a letter or a digit")
	}
	return nil
}

// isWord reports whether s has 1 to most bytes, all of them ASCII letters,
// digits or one of more.
func isWord(s string, most int, more string) bool {
	if s == "" || len(s) > most {
		return false
	}
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

func badName(what, got, expected string) error {
	return &problem.Error{
		Kind: problem.Usage, Work: problem.NotDone,
		Message: fmt.Sprintf("%q is not a valid %s", got, what),
		Hint:    "it must be " + expected,
	}
}
