package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"moonseal/runtime/config"
	"moonseal/runtime/problem"
)

// A proxy that does not take the config's password gets it with the first heartbeat
// only: with each further one it might lock the account. Another config has another try.
func TestTheHeartbeatSendsARefusedPasswordOnce(t *testing.T) {
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect && r.Header.Get("Proxy-Authorization") != "" {
			asked.Add(1)
		}
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	a := &app{getenv: func(name string) string { return map[string]string{"BEAT": "https://beat.test/"}[name] }}
	cfg := &config.Config{Proxy: "http://user:hunter2@" + strings.TrimPrefix(proxy.URL, "http://")}
	cfg.Alerts.Heartbeat = "BEAT"
	for configs := int64(1); configs <= 2; configs++ {
		beat := a.wire(cfg).beat()
		for range 3 {
			if e := problem.From(beat(t.Context())); e == nil || e.Kind != problem.Auth || !strings.HasPrefix(e.Target, "proxy ") {
				t.Errorf("%+v", e)
			}
		}
		if n := asked.Load(); n != configs {
			t.Errorf("config %d: the password was sent %d times", configs, n)
		}
	}
}
