package grant

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
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
