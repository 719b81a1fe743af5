package cli

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the repository's folder, as a test of this package sees it.
var root = filepath.Join("..", "..", "..")

// TestTopLevel keeps the top level to what is there: dotfiles and what git
// ignores may stand beside it.
func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "runtime", "modules", "scripts", "examples", "go.mod", "go.sum", "Makefile", "README.md"}
	ignored := strings.Fields(read(t, filepath.Join(root, ".gitignore")))
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
		ignores := func(pattern string) bool {
			match, _ := path.Match(strings.Trim(pattern, "/"), e.Name())
			return match
		}
		if !slices.Contains(allowed, e.Name()) && !strings.HasPrefix(e.Name(), ".") && !slices.ContainsFunc(ignored, ignores) {
			t.Errorf("%s does not belong to the top level: it holds %s", e.Name(), strings.Join(allowed, ", "))
		}
	}
	for _, name := range allowed {
		if !found[name] {
			t.Errorf("the top level lacks %s", name)
		}
	}
}

// An arrow is a rule about what packages may import. Patterns are folders; one
// that ends in /… means those below it too.
type arrow struct {
	from, to []string
	why      string
}

// arrows are tried in their order: the first whose from fits a package decides.
func arrows() []arrow {
	leaves := []string{"runtime/atomicfile", "runtime/duration", "runtime/plain", "runtime/problem", "runtime/safefile", "runtime/suggest"}
	module := append([]string{"runtime/account", "runtime/bind", "runtime/grant", "runtime/secret"}, leaves...)
	client := append([]string{"modules/x509", "modules/ssh"}, module...)
	return []arrow{
		{[]string{"cmd/moonseal"}, []string{"cmd/moonseal/cli"}, "main only calls"},
		{[]string{"cmd/moonseal/cli"}, []string{"runtime/…", "modules/…", "scripts", "examples"}, "the command line joins all"},
		{[]string{"cmd/moonseal/systest"}, nil, "its tests know only the program"},
		{[]string{"scripts", "examples"}, nil, "scripts and examples are data"},
		{[]string{"runtime/atomicfile", "runtime/duration", "runtime/plain", "runtime/safefile"}, []string{"runtime/problem"}, "every package may use them, so they use no more than the error type"},
		{[]string{"runtime/…"}, []string{"runtime/…"}, "the engine knows no module: cmd hands it the list"},
		{[]string{"modules"}, []string{"modules/…", "runtime/bind"}, "all.go lists the modules"},
		{[]string{"modules/faults"}, []string{"runtime/problem"}, "every test double uses the faults"},
		{[]string{"modules/lab/…"}, []string{"runtime/…", "modules/…", "scripts"}, "the lab joins the test doubles"},
		{[]string{"modules/acme/acmetest", "modules/cucm/cucmtest", "modules/dns/dnstest"}, []string{"modules/faults", "runtime/problem"}, "a test double shares no code with what it tests"},
		{[]string{"modules/daemontest", "modules/dns/nameserver"}, []string{"modules/daemontest"}, "they run servers of others for tests, and know nothing of ours"},
		{[]string{"modules/x509", "modules/ssh"}, append([]string{"runtime/bind"}, leaves...), "all modules may use them, so they use none"},
		{[]string{"modules/acme", "modules/cucm", "modules/dns"}, client, "modules do not know each other; what two of them need is in x509 or ssh"},
		{[]string{"modules/…"}, module, "a module knows bind, not the engine"},
	}
}

// testArrow says what tests may import beside their package's own arrows.
func testArrow(dir string) []string {
	if strings.HasPrefix(dir, "modules/") {
		return []string{
			"runtime/…", "modules/x509", "modules/ssh", "modules/faults", "modules/acme/acmetest", "modules/cucm/cucmtest", "modules/dns/dnstest",
			"modules/daemontest", "modules/dns/nameserver",
		}
	}
	return nil
}

func fits(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		above, tree := strings.CutSuffix(p, "/…")
		return dir == above || (tree && strings.HasPrefix(dir, above+"/"))
	})
}

// TestArrows checks the imports of every file.
func TestArrows(t *testing.T) {
	rules := arrows()
	for _, file := range goFiles(t) {
		dir := path.Dir(file)
		at := slices.IndexFunc(rules, func(a arrow) bool { return fits(dir, a.from) })
		if at < 0 {
			t.Errorf("%s: no rule says what %s may import", file, dir)
			continue
		}
		allowed := rules[at].to
		if strings.HasSuffix(file, "_test.go") {
			allowed = append(slices.Clone(allowed), testArrow(dir)...)
		}
		for _, to := range imports(t, file) {
			if to != dir && !fits(to, allowed) {
				t.Errorf("%s imports %s: %s", file, to, rules[at].why)
			}
		}
	}
}

// TestFolderNames refuses folders that say nothing of what is in them.
func TestFolderNames(t *testing.T) {
	for _, file := range goFiles(t) {
		for part := range strings.SplitSeq(path.Dir(file), "/") {
			if slices.Contains([]string{"internal", "pkg", "util", "utils", "common", "helpers", "misc"}, part) {
				t.Errorf("%s: a folder is named by what it is about, not %s", file, part)
			}
		}
	}
}

// goFiles lists the repository's Go files, with slashes, from its top level.
func goFiles(t *testing.T) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || name == "bin"):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go"):
			out = append(out, name)
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

// imports lists moonseal's own packages that a file imports, by their folders.
func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(file)), nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if own, ok := strings.CutPrefix(name, "moonseal/"); ok {
			out = append(out, own)
		}
	}
	return out
}

// TestScreensEscape keeps to plain.Fprintf, which escapes what others say, whatever is
// shown: fmt.Fprintf would let a line break in a value begin a line.
func TestScreensEscape(t *testing.T) {
	own := map[string]int{"errors.go": 1, "progress.go": 1} // a script's own line, escaped; and into a text that is an argument
	for _, file := range goFiles(t) {
		if path.Dir(file) != "cmd/moonseal/cli" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		text := read(t, filepath.Join(root, filepath.FromSlash(file)))
		if n := strings.Count(text, "fmt.Fprintf("); n != own[path.Base(file)] {
			t.Errorf("%s: %d calls of fmt.Fprintf, want plain.Fprintf", file, n)
		}
	}
}
