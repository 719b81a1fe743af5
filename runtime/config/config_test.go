package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moonseal/runtime/config"
	"moonseal/runtime/problem"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "moonseal.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"scripts: a\nsripts: b\n":               `moonseal.yaml:2: unknown key "sripts"`,
		"limits: { memori: 1MiB }\n":            `moonseal.yaml:1: unknown key "memori"`,
		"secrets:\n  A: { flie: x }\n":          `moonseal.yaml:2: unknown key "flie"`,
		"scripts: [a]\n":                        "moonseal.yaml:1: expects a text, got a list",
		"limits: { memory: much }\n":            `"much" is not a valid number of bytes`,
		"limits: { cpu: all }\n":                `moonseal.yaml:1: "all" is not a valid share of a processor`,
		"limits: { cpu: .nan }\n":               `".nan" is not a valid share of a processor`,
		"limits: { cpu: 0 }\n":                  `"0" is not a valid share of a processor`,
		"limits: { files: 3 }\n":                "moonseal.yaml: limits.files must be from 32 to 1048576, not 3",
		"grants:\n  dfw: { secret: [A] }\n":     `moonseal.yaml:2: unknown key "secret"`,
		"grants:\n  dfw: { hosts: ['a/b'] }\n":  `moonseal.yaml: grants.dfw: "a/b" is not a valid host`,
		"grants:\n  dfw: { modules: cucm }\n":   `moonseal.yaml:2: expects a list, got "cucm"`,
		"a: b: c\n":                             "moonseal.yaml: mapping values are not allowed",
		"scripts: a\n  state: b\n":              "moonseal.yaml:2: mapping values are not allowed",
		"secrets: { A: abc }\n":                 `moonseal.yaml:1: expects a table of keys, got "abc"`,
		"scripts: a\n---\nscripts: b\n":         "more than one YAML document",
		"secrets: { A: {} }\n":                  "secret A must name one of file, env and exec",
		"secrets: { A: { file: a, env: B } }\n": "secret A must name only one of file, env and exec",
		"log:\n  level: loud\n":                 `moonseal.yaml:2: level must be debug, info, warn or error, not "loud"`,
		"log:\n  format: xml\n":                 `moonseal.yaml:2: format must be text or json, not "xml"`,
		"keep:\n  logs: 5m\n":                   `moonseal.yaml:2: it must be a day ("1d") or more, or "forever", not "5m"`,
		"keep: { runs: long }\n":                `moonseal.yaml:1: `,
		"hooks: scripts/x\n":                    "moonseal.yaml: hooks is a folder among the scripts: ",
		"hooks: scripts\n":                      "moonseal.yaml: hooks is a folder among the scripts: ",
		strings.Repeat("# x\n", 300_000):        "over 1 MiB",
		"limits: { memory: 9999999GiB }\n":      "x",
	} {
		_, err := config.Load(write(t, text), os.Getenv)
		if want == "x" { // fits: 32 bits of GiB
			if err != nil {
				t.Errorf("%.40q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

func TestDefaultsAndRelativePaths(t *testing.T) {
	path := write(t, "state: st\nca_bundle: ca.pem\nlimits: { memory: 64MiB }\nsecrets: { A: { file: a } }\nlog: { level: warn }\n")
	c, err := config.Load(path, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if c.Scripts != filepath.Join(dir, "scripts") || c.State != filepath.Join(dir, "st") || c.CABundle != filepath.Join(dir, "ca.pem") ||
		c.Secrets["A"].File != filepath.Join(dir, "a") || c.Limits.Memory != 64<<20 {
		t.Errorf("got %+v", c)
	}
}

// A config that is wrong elsewhere still says where its daemon is.
func TestWhere(t *testing.T) {
	for text, want := range map[string]string{
		"state: /st\nconcurency: 3\n":                                      "/st/moonseal.sock",
		"state: /st\nlisten: { socket: /run/s, grupp: x }\nlog: [1]\n":     "/run/s",
		"state: /st\nlimits: { memory: much }\nkeep: { runs: 1s }\nx: y\n": "/st/moonseal.sock",
	} {
		path := write(t, text)
		if _, err := config.Load(path, os.Getenv); err == nil {
			t.Errorf("%q is right", text)
		}
		if c, err := config.Where(path, os.Getenv); err != nil || c.Listen.Socket != want {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	if _, err := config.Where(write(t, "a: b: c\n"), os.Getenv); err == nil {
		t.Error("what is no YAML says nothing")
	}
}

func TestKeep(t *testing.T) {
	for text, want := range map[string]string{
		"": "400d 400d 90d", "keep: { runs: forever, logs: 36h }": "forever forever 36h0m0s", "keep: { logs: 7d, skipped: 30d }": "400d 30d 7d",
	} {
		c, err := config.Load(write(t, text), os.Getenv)
		if got := c.Keep.Runs.String() + " " + c.Keep.Skipped.String() + " " + c.Keep.Logs.String(); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	if config.Forever.Duration() != 0 {
		t.Error("for ever is not without end")
	}
}

func TestShareOfTheProcessors(t *testing.T) {
	for text, want := range map[string]config.Share{"none": 0, "50%": 0.5, "1.5": 1.5, "200%": 2} {
		c, err := config.Load(write(t, "limits: { cpu: "+text+" }\n"), os.Getenv)
		if err != nil || c.Limits.CPU != want || c.Limits.Files != 256 || c.Limits.Memory != config.DefaultMemory {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}

// Where the config says nothing of it, the state is where it is without a config.
func TestStateIsTheUsers(t *testing.T) {
	for _, path := range []string{write(t, "scripts: a\n"), ""} {
		t.Chdir(t.TempDir())
		env := map[string]string{"STATE_DIRECTORY": "/var/lib/of-systemd"}
		c, err := config.Load(path, func(name string) string { return env[name] })
		if err != nil || c.State != "/var/lib/of-systemd" {
			t.Errorf("%q: %v, %v", path, c, err)
		}
		if os.Geteuid() == 0 {
			continue
		}
		env = map[string]string{"HOME": "/home/u"}
		c, err = config.Load(path, func(name string) string { return env[name] })
		if err != nil || c.State != "/home/u/.local/state/moonseal" {
			t.Errorf("%q: %v, %v", path, c, err)
		}
	}
}

// What stands elsewhere in the file, or is written in another way, is no change.
func TestDiff(t *testing.T) {
	load := func(text string) *config.Config {
		t.Helper()
		c, err := config.Load(write(t, "scripts: /s\nstate: /t\n"+text), os.Getenv)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct{ a, b, want string }{
		{"", "# nothing\n\nconcurrency: 8\nlimits: { memory: 256MiB }\n", ""},
		{"modules:\n  acme: { x: 1 } # one\nlog: { level: warn }", "log:\n  level: warn\nmodules:\n\n  acme:\n    x: 1\n", ""},
		{"modules: { acme: { x: 1 }, dns: { y: 1 } }", "modules: { acme: { x: 2 } }", "modules.acme modules.dns"},
		{"secrets: { A: { env: B } }", "secrets: { A: { env: C }, D: { env: E } }", "secrets.A secrets.D"},
		{"alerts: { urls: [A], heartbeat: H }", "alerts: { urls: [B], heartbeat: H }\nproxy: http://a", "alerts.urls proxy"},
		{"no_proxy: [a]", "no_proxy: [a, '*.b', 10.0.0.0/8]", "no_proxy"},
		{"hosts: { 'a:1': 'b:2' }\ngrants: { dfw: { hosts: [a] } }", "listen: { group: g }\nlog: { format: json }", "grants.dfw hosts listen.group log.format"},
	} {
		got, err := config.Diff(load(c.a), load(c.b))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q to %q: %v, %v; want %s", c.a, c.b, got, err, c.want)
		}
	}
}

func TestWritableByOthersIsRefused(t *testing.T) {
	path := write(t, "scripts: a\n")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path, os.Getenv); err == nil || !strings.Contains(err.Error(), "others can write the config (mode 0666)") {
		t.Errorf("got %v", err)
	}
	if _, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"), os.Getenv); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("scripts: a\nmodules: { acme: { x: 1 } }\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = config.Decode(data, &config.Config{}, "x")
	})
}

// Any file is a config that can be used as it is, or an error that is about the file.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "a", "[]", "scripts: a\nstate: /b\n", "secrets: { A: { file: x }, B: { exec: [y] } }", "limits: { memory: 1KiB, cpu: 50% }", "hooks: scripts/hooks",
		"grants: { a: { hosts: ['10.0.0.0/8:22'] } }", "keep: { runs: forever }", "listen: { socket: s }", "concurrency: -1", "a: &a [*a]", "a: &a { <<: *a }", "--- |\n",
		"modules: { acme: { directories: { x: y } } }", "stop_timeout: 1h\nalerts: { urls: [A], expiring: 1d }",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "moonseal.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path, func(string) string { return "" })
		if err != nil {
			if problem.From(err).Kind != problem.Usage {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, p := range []string{c.Scripts, c.State, c.Listen.Socket} {
			if !filepath.IsAbs(p) {
				t.Fatalf("%q in %+v", p, c)
			}
		}
		if _, err := config.Diff(c, c); err != nil {
			t.Fatalf("cannot be compared: %v", err)
		}
	})
}
