package ssh

import (
	"cmp"
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// Config says which host to connect to, and how. Addr, User, Password and HostKeys are
// needed; the zero value of the others is a default.
type Config struct {
	Addr     string                                // host:port
	User     string                                //
	Password func(context.Context) (string, error) // asked at most once, after the host key is verified
	HostKeys []string                              // pinned fingerprints "SHA256:…" as ssh-keygen prints them; any one of them will do
	Trust    string                                // the command that pins a host key, for hints; "moonseal trust HOST" by default

	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // net.Dialer by default
	Legacy  bool                                                              // also offer SHA-1, CBC and ssh-rsa, for old releases
	Timeout time.Duration                                                     // connecting, keys and password together; 30 s by default
	Banner  time.Duration                                                     // from there to the first prompt; 120 s by default: appliances are slow

	Prompt     *regexp.Regexp // matched on the last line, up to its end; `^admin:\s*$` by default
	Pager      *regexp.Regexp // what asks for a key before it shows more, on the last line; answered with a space
	Settle     time.Duration  // silence that makes the first prompt one, and later ones that differ from it; 50 ms by default
	MostOutput int            // bytes of one command's output; 1 MiB by default
}

var (
	defaultPrompt = regexp.MustCompile(`(?m)^admin:\s*$`)
	defaultPager  = regexp.MustCompile(`(?i)(press <enter> for 1 line, <space> for one page, or <q> to quit|--\s*more\s*--)\s*$`)
)

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.Banner = cmp.Or(c.Banner, 120*time.Second)
	c.Settle = cmp.Or(c.Settle, 50*time.Millisecond)
	c.MostOutput = cmp.Or(c.MostOutput, 1<<20)
	c.Prompt = cmp.Or(c.Prompt, defaultPrompt)
	c.Pager = cmp.Or(c.Pager, defaultPager)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return c
}

// host returns the host without its port.
func (c Config) host() string {
	if host, _, err := net.SplitHostPort(c.Addr); err == nil {
		return host
	}
	return c.Addr
}

// algorithms puts what may be negotiated into cfg. The library's own defaults
// are not used: they still hold SHA-1 key exchange and ssh-rsa.
func algorithms(cfg *xssh.ClientConfig, legacy bool) {
	offer := xssh.SupportedAlgorithms()
	if legacy {
		old := xssh.InsecureAlgorithms()
		offer.KeyExchanges = append(offer.KeyExchanges, old.KeyExchanges...)
		offer.Ciphers = append(offer.Ciphers, old.Ciphers...)
		offer.MACs = append(offer.MACs, old.MACs...)
		offer.HostKeys = append(offer.HostKeys, old.HostKeys...)
	}
	cfg.KeyExchanges, cfg.Ciphers, cfg.MACs = offer.KeyExchanges, offer.Ciphers, offer.MACs
	// A host certificate has no fingerprint to compare.
	cfg.HostKeyAlgorithms = slices.DeleteFunc(offer.HostKeys, func(a string) bool { return strings.Contains(a, "-cert-") })
}
