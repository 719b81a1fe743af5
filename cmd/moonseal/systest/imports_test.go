package systest

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// What these tests know of moonseal is what its users can see.
func TestNothingOfMoonsealIsImported(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, "`\""); path == "moonseal" || strings.HasPrefix(path, "moonseal/") {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
	if strings.Contains(read(t, "go.mod"), "moonseal v") {
		t.Error("go.mod requires moonseal")
	}
}
