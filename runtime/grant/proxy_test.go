package grant

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"moonseal/runtime/problem"
)

// The password of a mistyped URL is anywhere in it.
func TestMistypedProxyIsNotShown(t *testing.T) {
	for _, proxy := range []string{
		"user:hunter2@proxy.test", "user:hunter2@proxy.test:3128", "//user:hunter2@proxy.test", "http:user:hunter2@proxy.test", "ftp://user:hunter2@proxy.test",
		"http://user:hunter2@", "http://user:hunter2@proxy.test:port", "http://user:hunter2%zz@proxy.test", "http://user:hun#ter2@proxy.test",
		"http://user:12/hunter2@proxy.test", "http://user:12?hunter2@proxy.test", "http://user:12#hunter2@proxy.test", "http://proxy.test/hunter2", "http://[hunter2", "\nhunter2",
	} {
		_, err := New(Options{Proxy: proxy})
		e := problem.From(err)
		if e == nil || e.Kind != problem.Usage || e.Target != "proxy" {
			t.Errorf("%s: %v", proxy, err)
			continue
		}
		for _, part := range []string{"hunter2", "ter2"} {
			if strings.Contains(e.Error()+e.Hint, part) || e.Cause != nil {
				t.Errorf("%s: %q, %q", proxy, e, e.Hint)
			}
		}
		if name, password := (Options{Proxy: proxy}).ProxyUser(); name+password != "" {
			t.Errorf("%s: %s, %s", proxy, name, password)
		}
	}
	for proxy, want := range map[string]string{
		"": " ", "http://proxy.test": " ", "http://user:p%40ss@proxy.test:3128/": "user p@ss", "socks5://user@proxy.test": "user ", "https://u:p@[2001:db8::1]": "u p",
	} {
		_, err := New(Options{Proxy: proxy})
		name, password := (Options{Proxy: proxy}).ProxyUser()
		if err != nil || name+" "+password != want {
			t.Errorf("%s: %q %q, %v", proxy, name, password, err)
		}
	}
}

// A proxy that refuses may repeat what it was sent in the line of its status.
func TestWordsOfAProxyAreNotRepeated(t *testing.T) {
	for status, kind := range map[string]problem.Kind{"407": problem.Auth, "503": problem.Unavailable} {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 " + status + " " + r.Header.Get("Proxy-Authorization") + "\r\nContent-Length: 0\r\n\r\n"))
			_ = conn.Close()
		}))
		defer proxy.Close()
		n, err := New(Options{Proxy: "http://user:hunter2@" + strings.TrimPrefix(proxy.URL, "http://")})
		if err != nil {
			t.Fatal(err)
		}
		transport := n.Transport()
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://ca.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		e := problem.Network(err)
		if e.Kind != kind || e.Happened() != problem.NotDone || !strings.HasPrefix(e.Error(), "proxy 127.0.0.1:") || strings.Contains(e.Error(), "Basic") {
			t.Errorf("%s: %v", status, e)
		}
		if u, err := url.Parse(proxy.URL); err != nil || e.Target != "proxy "+u.Host {
			t.Errorf("%s: %v", status, e)
		}
	}
}

// strict is a proxy that refuses, and counts how often it is asked.
type strict struct {
	status int
	asked  atomic.Int64
}

func (s *strict) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.asked.Add(1)
	w.WriteHeader(s.status)
}

func ask(t *testing.T, n *Network, url string) *problem.Error {
	t.Helper()
	transport := n.Transport()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return problem.Network(err)
	}
	_ = resp.Body.Close()
	return nil
}

// A password that was refused is not sent again, to no host and by no transport.
func TestARefusedPasswordIsSentOnce(t *testing.T) {
	proxy := &strict{status: http.StatusProxyAuthRequired}
	server := httptest.NewServer(proxy)
	defer server.Close()
	at := strings.TrimPrefix(server.URL, "http://")
	for user, hint := range map[string]string{"user:hunter2@": "does not accept the name", "": "http://USER:PASSWORD@" + at} {
		denied := &Denials{}
		proxy.asked.Store(0)
		for range 2 { // Networks that follow one another
			n, err := New(Options{Proxy: "http://" + user + at, Denied: denied})
			if err != nil {
				t.Fatal(err)
			}
			granted, err := n.Granted([]byte(`{"playbook":"p","hosts":["*"]}`))
			if err != nil {
				t.Fatal(err)
			}
			for _, by := range []*Network{n, granted} {
				for _, url := range []string{"https://ca.test/", "https://dns.test/"} {
					e := ask(t, by, url)
					if e == nil || e.Kind != problem.Auth || e.Happened() != problem.NotDone || e.Target != "proxy "+at || !strings.Contains(e.Hint, hint) {
						t.Errorf("%s: %+v", url, e)
					}
				}
			}
		}
		if n := proxy.asked.Load(); n != 1 {
			t.Errorf("%q: asked %d times", user, n)
		}
	}
}

// A host that the proxy refuses says nothing of other hosts.
func TestARefusedHostIsAskedForOnce(t *testing.T) {
	proxy := &strict{status: http.StatusForbidden}
	server := httptest.NewServer(proxy)
	defer server.Close()
	n, err := New(Options{Proxy: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for i, url := range []string{"https://ca.test/", "https://ca.test/", "https://dns.test/"} {
		e := ask(t, n, url)
		if e == nil || e.Kind != problem.Auth || !strings.HasPrefix(e.Target, "proxy 127.0.0.1:") || !strings.Contains(e.Message, "403") {
			t.Fatalf("%s: %+v", url, e)
		}
		if host := strings.Trim(strings.TrimPrefix(url, "https:"), "/"); !strings.Contains(e.Hint, `no_proxy: ["`+host+`"]`) {
			t.Errorf("%s: %q", url, e.Hint)
		}
		if want := int64(1 + i/2); proxy.asked.Load() != want {
			t.Errorf("%s: asked %d times", url, proxy.asked.Load())
		}
	}
}

// A proxy that is busy is asked again.
func TestABusyProxyIsAskedAgain(t *testing.T) {
	proxy := &strict{status: http.StatusServiceUnavailable}
	server := httptest.NewServer(proxy)
	defer server.Close()
	n, err := New(Options{Proxy: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want < 3; want++ {
		if e := ask(t, n, "https://ca.test/"); e == nil || e.Kind != problem.Unavailable || proxy.asked.Load() != want {
			t.Errorf("asked %d times: %+v", proxy.asked.Load(), e)
		}
	}
}

func TestNoProxy(t *testing.T) {
	proxy := &strict{status: http.StatusForbidden}
	server := httptest.NewServer(proxy)
	defer server.Close()
	peer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer peer.Close()
	to := strings.TrimPrefix(peer.URL, "http://")
	hosts := map[string]string{}
	for _, host := range []string{"ca.test", "a.below.test", "below.test", "b.dotted.test", "10.1.2.3", "192.0.2.9", "[2001:db8::7]", "other.test"} {
		hosts[host+":80"] = to
	}
	n, err := New(Options{Proxy: server.URL, Hosts: hosts, NoProxy: []string{"CA.test.", "*.below.test", ".dotted.test", "10.0.0.0/8", "2001:db8::/32", "192.0.2.9:8080"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, direct := range map[string]bool{
		"ca.test": true, "a.below.test": true, "below.test": false, "b.dotted.test": true, "10.1.2.3": true, "192.0.2.9": false, "[2001:db8::7]": true, "other.test": false,
	} {
		before := proxy.asked.Load()
		ask(t, n, "http://"+host+"/")
		if got := proxy.asked.Load() == before; got != direct {
			t.Errorf("%s: direct %v", host, got)
		}
	}
	// What is reached directly needs a grant all the same.
	granted, err := n.Granted([]byte(`{"playbook":"p","hosts":["other.test"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if e := ask(t, granted, "http://ca.test/"); e == nil || e.Kind != problem.Refused {
		t.Errorf("not granted: %+v", e)
	}
	for _, bad := range []string{"", "a b", "https://ca.test", "10.0.0.0/99", "a/b"} {
		_, err := New(Options{NoProxy: []string{bad}})
		if e := problem.From(err); e == nil || e.Kind != problem.Usage || e.Target != "no_proxy" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A SOCKS proxy refuses credentials in the same way.
func TestSOCKSProxyThatRefuses(t *testing.T) {
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, answer := range [][]byte{{5, 2}, {1, 1}} { // name and password, and then "no"
			if _, err := conn.Read(make([]byte, 256)); err != nil {
				return
			}
			_, _ = conn.Write(answer)
		}
		_, _ = conn.Read(make([]byte, 1))
	}()
	n, err := New(Options{Proxy: "socks5://user:hunter2@" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	e := ask(t, n, "https://ca.test/")
	if e == nil || e.Kind != problem.Auth || e.Happened() != problem.NotDone || !strings.Contains(e.Error(), "SOCKS proxy") || strings.Contains(e.Error()+e.Hint, "hunter2") {
		t.Errorf("%+v", e)
	}
}
