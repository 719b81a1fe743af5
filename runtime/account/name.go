package account

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"moonseal/runtime/problem"
)

// hostName gives host in the one form that names its folder: lower case,
// without a last dot. It refuses what is neither a DNS name nor an IP address.
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

// noAddress names the account of a CA that was given no e-mail address. It is
// no address itself, for it has no @.
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

func badName(what, got, want string) error {
	return &problem.Error{
		Kind: problem.Usage, Work: problem.NotDone,
		Message: fmt.Sprintf("%q is no name of a %s", got, what),
		Hint:    "want " + want,
	}
}
