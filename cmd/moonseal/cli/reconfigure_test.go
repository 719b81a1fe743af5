package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Who is told, and the secrets that say where they are, change while the daemon
// runs: what was wrong before is told at once to whoever is named first.
func TestReloadChangesWhoIsTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{} // by path
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
		case strings.Contains(string(body), "test alert of moonseal"):
			got["test"]++
		case r.Method == http.MethodGet, strings.Contains(string(body), "bad.lua:1 is broken"):
			got[r.URL.Path]++
		}
	}))
	t.Cleanup(service.Close)
	w := newSite(t, "")
	plain := read(t, w.config())
	w.script("bad", "half a script")
	w.env["BEAT"] = service.URL + "/beat"
	d := w.serve()
	delete(w.env, "BEAT") // the daemon alone has it, as it has what systemd passes to it
	w.check(os.WriteFile(filepath.Join(w.dir, "one"), []byte("generic://"+service.Listener.Addr().String()+"/one?disabletls=yes"), 0o600))
	if out := w.moonseal(exitUsage, "alert", "test"); !strings.Contains(out, "the config has no alerts") {
		t.Errorf("alert test: %s", out)
	}
	w.check(os.WriteFile(w.config(), []byte(plain+"secrets: { ONE: { file: one } }\nalerts: { urls: [ONE], heartbeat: BEAT }\n"), 0o600))
	if out := w.moonseal(exitFailed, "reload"); !strings.Contains(out, "config   alerts.heartbeat alerts.urls secrets.ONE\n") {
		t.Errorf("reload: %s", out)
	}
	w.until("the alert and the heartbeat arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["/one"] == 1 && got["/beat"] == 1
	})
	out := w.moonseal(exitDone, "alert", "test")
	mu.Lock()
	defer mu.Unlock()
	if out != "sent to 1 service\nthe heartbeat's URL answers (BEAT)\n" || got["test"] != 1 {
		t.Errorf("alert test: %s", out)
	}
	d.kill()
	d.process.wait()
}
