package grant

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/url"
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

// throughProxy returns the proxy for a request whose host is granted: the dialer
// sees the proxy only.
func (n *Network) throughProxy(r *http.Request) (*url.URL, error) {
	if err := n.opt.Allowed.Host(withPort(r.URL)); err != nil {
		return nil, err
	}
	return n.proxy, nil
}

// dialProxy is the dialer of transports that go through the proxy. The proxy needs
// no grant here, and only here: a script may not name it as a host.
func (n *Network) dialProxy(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr == withPort(n.proxy) {
		return n.DialConfigured(ctx, network, addr)
	}
	return n.Dial(ctx, network, addr)
}

// connected takes the place of net/http's error for a refused CONNECT, which repeats
// the proxy's own words: they may hold the credentials that it was sent.
func connected(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := problem.Status(resp.StatusCode, nil, "", time.Time{})
	e.Target, e.Work = "proxy "+proxy.Host, problem.NotDone
	return e
}

// withPort returns the "host:port" that a URL names.
func withPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), schemePort(u.Scheme)))
}

// schemePort returns the port of a scheme, "" for one that no proxy and no peer has.
func schemePort(scheme string) string {
	return map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[scheme]
}
