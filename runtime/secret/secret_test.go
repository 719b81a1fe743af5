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

func TestExec(t *testing.T) {
	if got, err := secret.Exec(t.Context(), []string{"sh", "-c", "echo from-vault"}, "A"); err != nil || got != "from-vault" {
		t.Errorf("%q, %v", got, err)
	}
	for script, want := range map[string]string{"exit 3": "exit status 3", "true": "it gives no secret A", "echo sealed >&2; exit 1": `"sealed"`, "yes | head -c 100000": "gives no secret"} {
		_, err := secret.Exec(t.Context(), []string{"sh", "-c", script}, "A")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := secret.Exec(t.Context(), []string{"/nonexistent"}, "A"); err == nil {
		t.Error("a program that is not there")
	}
}
