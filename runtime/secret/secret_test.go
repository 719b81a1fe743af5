package secret_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

const value = `hunter2"&/ü\long`

func TestRedactorKnowsTheFormsInWhichAValueTravels(t *testing.T) {
	r := &secret.Redactor{}
	r.LearnPair("admin", value)
	quoted, _ := json.Marshal(value)
	for _, form := range []string{
		value, string(quoted), url.QueryEscape(value), url.PathEscape(value), base64.StdEncoding.EncodeToString([]byte(value)),
		base64.RawURLEncoding.EncodeToString([]byte(value)), "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+value)),
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\ncut off",
	} {
		got := r.Redact("before " + form + " after")
		if !strings.HasPrefix(got, "before ") || !strings.Contains(got, "[secret]") {
			t.Errorf("%q became %q", form, got)
		}
		for _, piece := range []string{"hunter2", "MHcCAQEE", "cut off", "aHVudGVyMi"} {
			if strings.Contains(got, piece) {
				t.Errorf("%q is left in %q", piece, got)
			}
		}
	}
	r.Learn("abc")
	if got := r.Redact("abc"); got != "abc" {
		t.Errorf("a value of three letters blanks out words: %q", got)
	}
}

func TestHandlerRedactsMessagesAttributesAndGroups(t *testing.T) {
	r := &secret.Redactor{}
	r.Learn("hunter2hunter2")
	var b strings.Builder
	log := slog.New(r.Handler(slog.NewJSONHandler(&b, nil)))
	log.With("token", "hunter2hunter2").WithGroup("g").Info("msg hunter2hunter2", "err", errors.New("x hunter2hunter2"), slog.Group("in", "k", "hunter2hunter2"), "n", 5)
	if got := b.String(); strings.Contains(got, "hunter2") || strings.Count(got, "[secret]") != 4 || !strings.Contains(got, `"n":5`) {
		t.Errorf("got %s", got)
	}
}

func TestHandleNeverShowsAValue(t *testing.T) {
	h, err := secret.Named("CUCM_PASSWORD")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{fmt.Sprint(h), fmt.Sprintf("%#v", h), fmt.Sprintf("%s", h), h.LogValue().String()} { //nolint:staticcheck // it is the very question
		if got != "secret(CUCM_PASSWORD)" {
			t.Errorf("got %s", got)
		}
	}
	for _, bad := range []string{"", "9a", "a b", "../x", strings.Repeat("a", 129)} {
		if _, err := secret.Named(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestChainAsksEachSource(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("A", "from-file\n")
	write("EMPTY", "\n")
	write("BIG", strings.Repeat("x", 65<<10))
	chain := secret.Chain{
		secret.Directory(""), secret.Directory(dir),
		secret.Environment(func(n string) (string, bool) { return "from-env", n == "A" || n == "B" }),
		secret.Map{"C": "from-map"},
	}
	for name, want := range map[string]string{"A": "from-file", "B": "from-env", "C": "from-map"} {
		if got, err := chain.Value(context.Background(), name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := secret.ReadFile(filepath.Join(dir, "NONE"), "A"); err == nil || problem.From(err).Kind != problem.Usage || !strings.HasSuffix(err.Error(), "cannot read secret A: no such file or directory") {
		t.Errorf("a file that is not there: %v", err)
	}
	for name, want := range map[string]problem.Kind{"NONE": problem.NotFound, "../A": problem.NotFound, "EMPTY": problem.Usage, "BIG": problem.Usage} {
		if _, err := chain.Value(context.Background(), name); err == nil || problem.From(err).Kind != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each is a way to make moonseal hang, or to give it another's password.
func TestFilesThatAreNoSecrets(t *testing.T) {
	for says, change := range map[string]func(path string) error{
		"cannot read secret A: not a regular file": func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"others can write it (mode 0666)":          func(path string) error { return os.Chmod(path, 0o666) },
		"others can write it (mode 0620)":          func(path string) error { return os.Chmod(path, 0o620) },
		"others can write this folder (mode 0777)": func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"others can write this folder (mode 1777)": func(path string) error { return os.Chmod(filepath.Dir(path), 0o777|os.ModeSticky) },
		"others can write this folder (mode 0775)": func(path string) error { return os.Chmod(filepath.Dir(filepath.Dir(path)), 0o775) },
	} {
		dir := filepath.Join(t.TempDir(), "secrets")
		path := filepath.Join(dir, "A")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("value"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got, err := secret.ReadFile(path, "A"); err != nil || got != "value" {
			t.Fatalf("%q, %v", got, err)
		}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if got, err := secret.ReadFile(path, "A"); err == nil || problem.From(err).Kind != problem.Usage || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %q, %v", says, got, err)
		}
		if _, err := secret.Directory(dir).Value(t.Context(), "A"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s, as a credential: %v", says, err)
		}
	}
}

func FuzzReadFile(f *testing.F) {
	for _, seed := range []string{"", "\n", "value\n", "value\r\n", "two\nlines\n\n", "\x00\xff", strings.Repeat("x", 65<<10)} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "A")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secret.ReadFile(path, "A")
		switch {
		case err != nil && problem.From(err).Kind != problem.Usage:
			t.Fatalf("%v", err)
		case err == nil && got != strings.TrimSuffix(string(data), "\n"):
			t.Fatalf("%q became %q", data, got)
		case err == nil && (got == "" || len(data) > 64<<10):
			t.Fatalf("%d bytes are a secret", len(data))
		}
	})
}

func TestExec(t *testing.T) {
	if got, err := secret.Exec(t.Context(), []string{"sh", "-c", "echo from-vault"}, "A"); err != nil || got != "from-vault" {
		t.Errorf("%q, %v", got, err)
	}
	for script, want := range map[string]string{"exit 3": "exit status 3", "true": "it does not print the secret A", "echo sealed >&2; exit 1": `"sealed"`, "yes | head -c 100000": "does not print the secret"} {
		_, err := secret.Exec(t.Context(), []string{"sh", "-c", script}, "A")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := secret.Exec(t.Context(), []string{"/nonexistent"}, "A"); err == nil {
		t.Error("a program that is not there")
	}
}
