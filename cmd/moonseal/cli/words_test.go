package cli

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// word is one that texts for users do not have.
type word struct {
	pattern *regexp.Regexp
	instead string
}

func words(t *testing.T) []word {
	t.Helper()
	var out []word
	for line := range strings.Lines(read(t, filepath.Join("testdata", "words.list"))) {
		pattern, instead, ok := strings.Cut(strings.TrimSpace(line), "  ")
		switch {
		case pattern == "" || strings.HasPrefix(pattern, "#"):
		case !ok:
			t.Fatalf("words.list: %q has no reason", line)
		default:
			out = append(out, word{regexp.MustCompile(pattern), instead})
		}
	}
	if len(out) == 0 {
		t.Fatal("words.list has no words")
	}
	return out
}

// TestWords looks for the words of testdata/words.list in string literals, in the
// documentation of packages and exported names, in the scripts that ship, and in the
// documents. Test doubles speak for other programs.
func TestWords(t *testing.T) {
	list := words(t)
	fine := regexp.MustCompile("`[^`\n]*`|[Tt]here (is|are|was|were) no|is no longer|(give|gives|gave) up|begun \\(by") // code, phrases, and a value of the journal
	check := func(at, text string) {
		text = fine.ReplaceAllString(text, "…")
		for _, w := range list {
			if found := w.pattern.FindString(text); found != "" {
				t.Errorf("%s: %q in %.100q: %s", at, found, strings.TrimSpace(text), w.instead)
			}
		}
	}
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(path.Dir(file), "test") {
			continue
		}
		for at, text := range shownTexts(t, file) {
			check(at, text)
		}
	}
	for _, pattern := range []string{"scripts/*.lua", "scripts/lib/*/*.lua", "examples/*.lua", "examples/*/*.lua", "examples/*.yaml", "examples/*/*.yaml", "examples/systemd/*", "examples/timer/*", "examples/container/*", "cmd/moonseal/cli/templates/*"} {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			checkLines(check, file, read(t, file))
		}
	}
	for _, name := range documents(t) {
		checkLines(check, name, read(t, filepath.Join(root, name)))
	}
}

// documents lists the Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (name == ".git" || name == "bin" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if strings.HasSuffix(name, ".md") {
			out = append(out, name)
		}
		return err
	})
	if err != nil || len(out) < 5 {
		t.Fatalf("%d documents, %v", len(out), err)
	}
	return out
}

func checkLines(check func(at, text string), name, text string) {
	for i, line := range strings.Split(text, "\n") {
		check(fmt.Sprintf("%s:%d", name, i+1), line)
	}
}

// shownTexts returns a Go file's string literals and the documentation of its exported
// names, by their places.
func shownTexts(t *testing.T, file string) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join(root, filepath.FromSlash(file)), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	add := func(n ast.Node, text string) {
		at := fset.Position(n.Pos())
		out[fmt.Sprintf("%s:%d:%d", file, at.Line, at.Column)] = text
	}
	doc := func(c *ast.CommentGroup, exported bool) {
		if c != nil && exported {
			add(c, c.Text())
		}
	}
	doc(f.Doc, true)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			doc(n.Doc, n.Name.IsExported())
		case *ast.GenDecl:
			for _, s := range n.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					doc(n.Doc, s.Name.IsExported())
					doc(s.Doc, s.Name.IsExported())
				case *ast.ValueSpec:
					doc(n.Doc, s.Names[0].IsExported())
					doc(s.Doc, s.Names[0].IsExported())
					doc(s.Comment, s.Names[0].IsExported())
				}
			}
		case *ast.Field:
			exported := len(n.Names) > 0 && n.Names[0].IsExported()
			doc(n.Doc, exported)
			doc(n.Comment, exported)
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if text, err := strconv.Unquote(n.Value); err == nil && strings.Contains(text, " ") { // a word alone is a value
					add(n, text)
				}
			}
		}
		return true
	})
	return out
}

// TestTroubleshooting finds each message of the README's table in the program.
func TestTroubleshooting(t *testing.T) {
	_, table, ok := strings.Cut(read(t, filepath.Join(root, "README.md")), "\n## Troubleshooting\n")
	if !ok {
		t.Fatal("the README has no Troubleshooting")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var source strings.Builder
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			for _, text := range shownTexts(t, file) {
				source.WriteString(text + "\n")
			}
		}
	}
	said := regexp.MustCompile(`%[-+#]?[a-z]`).ReplaceAllString(source.String(), "…")
	n := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(table, -1) {
		for _, message := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			for part := range strings.SplitSeq(message[1], "…") {
				if part = strings.Trim(part, ` "':,;()`); len(part) < 4 {
					continue
				}
				if n++; !strings.Contains(said, part) {
					t.Errorf("README.md: %q of %q is in no message", part, message[1])
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d parts of messages were found", n)
	}
}
