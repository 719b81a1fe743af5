package grant

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"moonseal/runtime/problem"
)

// proxy reads the proxy's URL; nil if there is none. The URL may hold a password,
// so no error shows it.
func (o Options) proxy() (*url.URL, error) {
	if o.Proxy == "" {
		return nil, nil //nolint:nilnil // nil is the documented "none"
	}
	u, err := url.Parse(o.Proxy)
	switch {
	case err != nil, u.Hostname() == "", schemePort(u.Scheme) == "", u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return nil, &problem.Error{ //nolint:gosec // the URL in it is an example
			Kind: problem.Usage, Target: "proxy", Message: "it is not a valid URL of a proxy (it may hold a password, so it is not shown)",
			Hint: "write http://proxy.example.com:3128, or http://USER:PASSWORD@proxy.example.com:3128 with @ : / ? # of the password as %40 %3A %2F %3F %23",
		}
	}
	return u, nil
}

// ProxyUser returns the name and the password for the proxy, "" if it needs none or
// its URL is not valid.
func (o Options) ProxyUser() (name, password string) {
	u, err := o.proxy()
	if err != nil || u == nil {
		return "", ""
	}
	password, _ = u.User.Password()
	return u.User.Username(), password
}

// checkNoProxy refuses what cannot be a host.
func (o Options) checkNoProxy() error {
	for _, host := range o.NoProxy {
		if _, _, err := parseHost(below(host)); err != nil {
			return &problem.Error{
				Kind: problem.Usage, Target: "no_proxy", Message: fmt.Sprintf("%q is not a host", host), Cause: err,
				Hint: `write names, "*.example.com", addresses or networks: [ca.example.com, "*.automate.builders", 10.0.0.0/8]`,
			}
		}
	}
	return nil
}

// direct reports whether addr ("host:port") is reached without the proxy.
func (o Options) direct(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	return err == nil && slices.ContainsFunc(o.NoProxy, func(pattern string) bool { return fitsHost(below(pattern), host, port) })
}

// below returns "*.example.com" for ".example.com", as NO_PROXY is often written.
func below(pattern string) string {
	if strings.HasPrefix(pattern, ".") {
		return "*" + pattern
	}
	return pattern
}

// throughProxy returns the proxy for a request whose host is granted, nil if that host
// is reached directly: the dialer sees the proxy only. What the proxy refused is
// refused here: the same credentials would be refused again, and lock an account.
func (n *Network) throughProxy(r *http.Request) (*url.URL, error) {
	addr := withPort(r.URL)
	if err := n.opt.Allowed.Host(addr); err != nil {
		return nil, err
	}
	if n.opt.direct(addr) {
		return nil, nil //nolint:nilnil // nil is net/http's "no proxy"
	}
	if e := n.denied.of(addr); e != nil {
		return nil, e
	}
	return n.proxy, nil
}

// Denials is what the proxy has refused. Its zero value is ready to use, and belongs to
// one config: another password comes with another one.
type Denials struct {
	mu     sync.Mutex
	always *problem.Error            // the credentials
	hosts  map[string]*problem.Error // by "host:port"
}

// maxDenied bounds the recorded hosts.
const maxDenied = 256

func (d *Denials) of(addr string) *problem.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := d.always
	if found == nil {
		found = d.hosts[addr]
	}
	if found == nil {
		return nil
	}
	repeated := *found
	repeated.Message += "; not retried"
	return &repeated
}

// add records a refusal, of everything if addr is "".
func (d *Denials) add(addr string, e *problem.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if addr == "" {
		d.always = e
		return
	}
	if d.hosts == nil || len(d.hosts) >= maxDenied {
		d.hosts = map[string]*problem.Error{}
	}
	d.hosts[addr] = e
}

// dialProxy is the dialer of transports that go through the proxy. The proxy needs
// no grant here, and only here: a script may not name it as a host.
func (n *Network) dialProxy(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr == withPort(n.proxy) {
		return n.DialConfigured(ctx, network, addr)
	}
	return n.Dial(ctx, network, addr)
}

// connected replaces net/http's error for a refused CONNECT, which repeats the proxy's own
// words: they may hold the credentials that it was sent.
func (n *Network) connected(_ context.Context, proxy *url.URL, connect *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	addr := connect.URL.Opaque
	e := problem.Status(resp.StatusCode, nil, "", time.Time{})
	e.Target, e.Work = "proxy "+proxy.Host, problem.NotDone
	e.Message += " to CONNECT " + addr
	switch resp.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusUnauthorized:
		e.Hint = "set the name and the password in the config: proxy: http://USER:PASSWORD@" + proxy.Host
		if proxy.User != nil {
			e.Hint = "it does not accept the name and the password of proxy in the config"
		}
		n.denied.add("", e)
	case http.StatusForbidden:
		host, _, _ := net.SplitHostPort(addr)
		e.Hint = fmt.Sprintf("have the proxy allow %s, or reach it directly: no_proxy: [%q]", addr, cmp.Or(host, addr))
		n.denied.add(addr, e)
	}
	return e
}

// withPort returns the "host:port" that a URL names.
func withPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), schemePort(u.Scheme)))
}

// schemePort returns the default port of a scheme, "" for one that neither proxies nor
// peers use.
func schemePort(scheme string) string {
	return map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[scheme]
}
