package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// Zone says which provider serves a zone and how its records are changed. It is plain
// data: credentials are names of secrets.
type Zone struct {
	Provider string `lua:"provider" enum:"cloudflare route53 digitalocean rfc2136" doc:"the provider that serves the zone"`
	Name     string `lua:"name,optional" doc:"the zone's apex, such as example.com; found through the resolvers when left out"`

	APIToken  secret.Handle `lua:"api_token,optional" doc:"Cloudflare: API token with Zone.DNS:Edit and Zone:Read; DigitalOcean: token with write scope"`
	ZoneToken secret.Handle `lua:"zone_token,optional" doc:"Cloudflare: another token for Zone:Read, if api_token has none"`
	ZoneID    string        `lua:"zone_id,optional" doc:"Cloudflare: id of the zone, if several have the same name; the active one unless set"`

	AccessKeyID     secret.Handle `lua:"access_key_id,optional" doc:"Route 53: AWS access key id"`
	SecretAccessKey secret.Handle `lua:"secret_access_key,optional" doc:"Route 53: AWS secret access key"`
	SessionToken    secret.Handle `lua:"session_token,optional" doc:"Route 53: AWS session token of temporary credentials"`
	Region          string        `lua:"region,optional" default:"us-east-1" doc:"Route 53: AWS region that requests are signed for"`
	HostedZoneID    string        `lua:"hosted_zone_id,optional" doc:"Route 53: id of the hosted zone, if several have the same name"`

	Server       string        `lua:"server,optional" doc:"RFC 2136: the primary server, host or host:port (port 53)"`
	KeyName      string        `lua:"key_name,optional" doc:"RFC 2136: name of the TSIG key"`
	KeyAlgorithm string        `lua:"key_algorithm,optional" default:"hmac-sha256" enum:"hmac-sha1 hmac-sha224 hmac-sha256 hmac-sha384 hmac-sha512" doc:"RFC 2136: its algorithm"`
	Key          secret.Handle `lua:"key,optional" doc:"RFC 2136: the TSIG key, base64"`

	Resolvers   []string      `lua:"resolvers,optional" doc:"resolvers that zones and their servers are found through, host or host:port; this machine's when left out"`
	Propagation Propagation   `lua:"propagation,optional" doc:"how it is found out that records are published"`
	TTL         time.Duration `lua:"ttl,optional" default:"60s" doc:"time to live of new records"`
}

// Challenge is what a name's owner has to publish. It takes an order's challenges
// as they are.
type Challenge struct {
	Name  string   `lua:"name" doc:"the TXT record's name, such as _acme-challenge.www.example.com."`
	Value string   `lua:"value" doc:"the TXT record's value"`
	_     struct{} `lua:",open"`
}

// Record is a record as its provider knows it: enough to remove it, also by
// another process.
type Record struct {
	Zone  string        `lua:"zone" json:"zone" doc:"the zone's apex, without the last dot"`
	Name  string        `lua:"name" json:"name" doc:"the whole name in lower case, without the last dot"`
	Type  string        `lua:"type" json:"type" doc:"such as TXT"`
	Value string        `lua:"value" json:"value" doc:"the text of a TXT record, else the data as in a zone file"`
	TTL   time.Duration `lua:"ttl" json:"ttl" doc:"time to live"`
	ID    string        `lua:"id,optional" json:"id,omitempty" doc:"the provider's id, if it has one"`
}

// defaultTTL is the shortest that all providers take.
const defaultTTL = time.Minute

func (z Zone) ttl() time.Duration {
	if z.TTL == 0 {
		return defaultTTL
	}
	return z.TTL
}

// Check returns what is missing in z, before any request is sent.
func (z Zone) Check() error {
	need := map[string]bool{}
	switch z.Provider {
	case "cloudflare", "digitalocean":
		need["api_token"] = z.APIToken.IsZero()
	case "route53":
		need["access_key_id"], need["secret_access_key"] = z.AccessKeyID.IsZero(), z.SecretAccessKey.IsZero()
	case "rfc2136":
		need["server"], need["key_name"], need["key"] = z.Server == "", z.KeyName == "", z.Key.IsZero()
	default:
		return usage(fmt.Sprintf("no provider %q: there are cloudflare, route53, digitalocean and rfc2136", z.Provider))
	}
	for _, field := range []string{"api_token", "access_key_id", "secret_access_key", "server", "key_name", "key"} {
		if need[field] {
			return problem.Invalid(field, "is missing: a zone at "+z.Provider+" needs it")
		}
	}
	if _, err := cleanName(z.Name); z.Name != "" && err != nil {
		return problem.Invalid("name", fmt.Sprintf("must be a domain name such as %q, got %q", "example.com", z.Name))
	}
	if z.Server != "" && !isServer(z.Server) {
		return problem.Invalid("server", fmt.Sprintf("must be a host or host:port, got %q", z.Server))
	}
	for i, resolver := range z.Resolvers {
		if !isServer(resolver) {
			return problem.Invalid(fmt.Sprintf("resolvers[%d]", i+1), fmt.Sprintf("must be a host or host:port, got %q", resolver))
		}
	}
	if err := z.Propagation.check("propagation."); err != nil {
		return err
	}
	if z.ZoneID != "" && !isZoneID(z.ZoneID) {
		return problem.Invalid("zone_id", fmt.Sprintf("must be the 32 hexadecimal digits that Cloudflare shows on the zone's page, got %q", z.ZoneID))
	}
	if z.TTL != 0 && (z.TTL < time.Second || z.TTL > 24*time.Hour) {
		return problem.Invalid("ttl", "must be between 1s and 24h, got "+duration.Format(z.TTL))
	}
	return nil
}

func isZoneID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// isServer reports whether s is a host or host:port.
func isServer(s string) bool {
	host := strings.Trim(s, "[]")
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	_, err := cleanName(host)
	return err == nil
}

func usage(message string) error {
	return &problem.Error{Kind: problem.Usage, Message: message, Work: problem.NotDone}
}

// isName reports whether clean is a domain name, perhaps a wildcard's, of labels of
// a to z, 0 to 9, _ and, inside, -.
func isName(clean string) bool {
	labels := strings.Split(strings.TrimPrefix(clean, "*."), ".")
	return len(clean) <= 253 && !slices.ContainsFunc(labels, func(l string) bool {
		return len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.ContainsFunc(l, func(r rune) bool { return r != '-' && r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	})
}

// cleanName returns a domain name in lower case and without its last dot.
func cleanName(name string) (string, error) {
	clean := strings.TrimSuffix(strings.ToLower(name), ".")
	if !isName(clean) {
		return "", usage(fmt.Sprintf("%q is not a valid domain name", name))
	}
	return clean, nil
}

// within reports whether name is zone or below it; both are clean.
func within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}

func fqdn(name string) string { return mdns.Fqdn(name) }

// isText reports whether s can be a challenge's value. It leaves out what providers
// escape each in a way of its own; 43 characters of base64url need none of it.
func isText(s string) bool {
	return len(s) >= 1 && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
}

// checked returns the challenges with clean names and without doubles. There are none if
// a CA asks for no proof, because it still has an earlier one.
func checked(challenges []Challenge) ([]Challenge, error) {
	out := make([]Challenge, 0, len(challenges))
	seen := map[Challenge]bool{}
	for _, c := range challenges {
		name, err := cleanName(c.Name)
		if err != nil {
			return nil, err
		}
		if !isText(c.Value) {
			return nil, usage("the value for " + name + " is not printable text of 1 to 255 characters without quotes and backslashes")
		}
		c = Challenge{Name: name, Value: c.Value}
		if !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out, nil
}
