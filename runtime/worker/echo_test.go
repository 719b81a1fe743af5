package worker_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
)

const proxyPassword = "pr0xy-pass"

// echo is a call of a peer, or of a proxy before it, that sends back what it was sent.
func echo() *bind.Func {
	return &bind.Func{Name: "echo", Doc: "x", Returns: "nothing", Example: "x", Impl: bind.Read(func(c *bind.Call, _ *target, _ *none) (any, error) {
		h, _ := secret.Named("TOKEN")
		v, err := c.Secret(h)(c.Context)
		if err != nil {
			return nil, err
		}
		basic := base64.StdEncoding.EncodeToString([]byte("u:" + proxyPassword))
		return nil, &problem.Error{
			Kind: problem.Refused, Message: "answered 400 to " + v, Server: "Bearer " + v + ", Proxy-Authorization: Basic " + basic, Tracking: v, Hint: "see " + v,
			Target: "https://" + v + "@peer.test",
		}
	})}
}

// A script sees nothing of a secret that a peer echoes: it could turn it round,
// compare it, or send it on letter by letter.
func TestEchoedSecretsDoNotReachLua(t *testing.T) {
	w := newWorld(t)
	job := w.job(`ctx:step("one", function()
		local ok, err = pcall(function() return o:echo() end)
		assert(not ok)
		return { err.server, err.message, err.tracking, err.hint, err.target, tostring(err), tostring(err):reverse() }
	end)
	ctx:step("two", function() return o:echo() end)`)
	job.Network.Proxy = "http://u:" + proxyPassword + "@127.0.0.1:1"
	var id string
	out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, func(created string) { id = created })
	if err != nil || out.Status != journal.Failed || out.Error.Step != "two" {
		t.Fatalf("%+v, %v", out, err)
	}
	h, err := w.journal.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	seen := string(h.Steps[0].Result) + out.Error.Error() + out.Error.Hint + out.Error.Tracking
	if !strings.Contains(seen, "Bearer [secret], Proxy-Authorization: Basic [secret]") {
		t.Errorf("%s", seen)
	}
	for _, left := range []string{"hunter2", "2retnuh", proxyPassword, base64.RawStdEncoding.EncodeToString([]byte("u:" + proxyPassword))[3:12]} {
		if strings.Contains(seen, left) {
			t.Errorf("%q is left in %s", left, seen)
		}
	}
}
