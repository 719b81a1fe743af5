package cucmtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "exit", "utils service list", "utils service restart Cisco Tomcat", "utils service restart", "utils\tservice restart  restart utils", "utilsservice restart x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c := parse(line)
		if c.verb != verbRestart {
			if c.service != "" {
				t.Fatalf("%+v names a service", c)
			}
			return
		}
		if c.service != strings.TrimSpace(c.service) || !strings.HasSuffix(strings.TrimSpace(line), c.service) {
			t.Fatalf("%q returns %q", line, c.service)
		}
	})
}

type script struct {
	io.Reader
	io.Writer
}

// Whatever is typed, a line stays bounded and printable, and reading ends.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte("utils service list\r"), uint8(80))
	f.Add([]byte("\x7f\x15\x03abc\x04\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, typed []byte, width uint8) {
		term := newTerminal(clockwork.NewRealClock(), script{strings.NewReader(string(typed)), io.Discard}, Behavior{})
		term.pty, term.width = true, int(width)
		ctx, cancel := context.WithCancel(t.Context())
		read := make(chan struct{})
		go func() {
			defer close(read)
			term.read(ctx)
		}()
		for range len(typed) + 2 {
			line, err := term.readLine(ctx, prompt)
			if len(line) > maxLine || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Fatalf("line %q", line)
			}
			if errors.Is(err, io.EOF) {
				break
			}
		}
		cancel()
		<-read
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "{}", "[]", `{"service":"tomcat"}`, `{"service":["tomcat"],"certificates":["x"]}`, `{"service":"tomcat"}{}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, into := range []any{&csrRequest{}, &identityUpload{}, &trustUpload{}} {
			if refused := decode(strings.NewReader(text), into); refused != nil && (refused.status != 400 || refused.messages[0] != reasonFormat) {
				t.Fatalf("refused with %+v", refused)
			}
		}
	})
}
