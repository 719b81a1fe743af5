package cli

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reportVariable asks for the report; make report sets it.
const reportVariable = "MOONSEAL_REPORT"

// counted is a thing in the code and a figure of it.
type counted struct {
	name string
	n    int
}

// TestReport prints what grows unnoticed: the longest functions, the widest structs, the
// types with most methods, the longest files, and what each package depends on. It judges
// nothing.
func TestReport(t *testing.T) {
	if os.Getenv(reportVariable) == "" {
		t.Skip("make report prints it")
	}
	var functions, structs, files []counted
	methods, in, out := map[string]int{}, map[string]map[string]bool{}, map[string]map[string]bool{}
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		dir := path.Dir(file)
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(root, filepath.FromSlash(file)), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		lines := func(n ast.Node) int { return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1 }
		files = append(files, counted{file, fset.Position(f.FileEnd).Line - 1})
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				name := n.Name.Name
				if n.Recv != nil {
					of := receiver(n.Recv.List[0].Type)
					name = of + "." + name
					methods[dir+"."+of]++
				}
				functions = append(functions, counted{dir + "." + name, lines(n)})
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok {
					structs = append(structs, counted{dir + "." + n.Name.Name, s.Fields.NumFields()})
				}
			}
			return true
		})
		for _, to := range imports(t, file) {
			for _, edge := range []struct {
				of       map[string]map[string]bool
				from, to string
			}{{out, dir, to}, {in, to, dir}} {
				if edge.of[edge.from] == nil {
					edge.of[edge.from] = map[string]bool{}
				}
				edge.of[edge.from][edge.to] = true
			}
		}
	}
	longest("longest functions, lines", functions)
	longest("longest files, lines", files)
	longest("widest structs, fields", structs)
	var most []counted
	for name, n := range methods {
		most = append(most, counted{name, n})
	}
	longest("types with most methods", most)
	fmt.Println("\nwhat depends on what (imported by | imports)")
	packages := slices.Sorted(maps.Keys(out))
	for _, dir := range packages {
		fmt.Printf("%4d | %-28s %s\n", len(in[dir]), dir, strings.Join(slices.Sorted(maps.Keys(out[dir])), " "))
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// longest prints the twelve largest.
func longest(title string, of []counted) {
	slices.SortFunc(of, func(a, b counted) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name)) })
	fmt.Println("\n" + title)
	for _, m := range of[:min(len(of), 12)] {
		fmt.Printf("%4d  %s\n", m.n, m.name)
	}
}
