package alert

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const telegramURL = "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@ops,-100123:7"

func TestTelegram(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc // nil: nothing listens
		fails  bool
	}{
		"no network":    {nil, true},
		"it accepts it": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok":true,"result":{}}`) }, false},
		"it refuses": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"ok":false,"description":"bot was blocked"}`)
		}, true},
		"a proxy's page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		}, true},
		"an empty answer":    {func(http.ResponseWriter, *http.Request) {}, true},
		"a portal's sign-in": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>sign in") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			api := "http://" + closedPort(t)
			if c.answer != nil {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					got = append(got, r.URL.Path+" "+string(body))
					c.answer(w, r)
				}))
				defer s.Close()
				api = s.URL
			}
			send := sender{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, telegram: api}.toAll(func(context.Context) ([]Service, error) {
				return []Service{{Name: "TELEGRAM_URL", URL: telegramURL}}, nil
			})
			err := send(t.Context(), "a <title>", "a & b")
			if (err != nil) != c.fails {
				t.Fatalf("%v", err)
			}
			if err != nil {
				if strings.Contains(err.Error(), "AAHdq") || !strings.Contains(err.Error(), "the service of TELEGRAM_URL did not accept the message") {
					t.Errorf("%v", err)
				}
				return
			}
			const path = "/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage "
			const text = `"text":"\u003cb\u003ea \u0026lt;title\u0026gt;\u003c/b\u003e\na \u0026amp; b","parse_mode":"HTML","disable_web_page_preview":false,"disable_notification":false}`
			if want := []string{path + `{"chat_id":"@ops",` + text, path + `{"chat_id":"-100123","message_thread_id":7,` + text}; strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("sent\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
