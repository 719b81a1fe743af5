package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"moonseal/runtime/plain"
)

// figuresVariable names the output of benchmarks that TestFigures judges.
const figuresVariable = "MOONSEAL_BENCH"

// goal is a line of bench.goals.
type goal struct {
	name, unit string // package.Benchmark, where * stands for any sub-benchmark
	least      bool   // at least, not at most
	value      float64
	why        string
}

// figure is one metric of one benchmark.
type figure struct {
	name, unit string
	value      float64
}

func (g goal) of(f figure) bool { return g.unit == f.unit && g.covers(f.name) }

func (g goal) covers(name string) bool {
	match, _ := path.Match(g.name, name)
	return match
}

func (g goal) missed(f figure) bool {
	if g.least {
		return f.value < g.value
	}
	return f.value > g.value
}

func (g goal) String() string {
	if g.least {
		return "at least " + number(g.value)
	}
	return "at most " + number(g.value)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func readGoals(text string) ([]goal, error) {
	var goals []goal
	line := 0
	for l := range strings.Lines(text) {
		line++
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		fields := strings.Fields(l)
		if len(fields) < 5 || (fields[2] != "<=" && fields[2] != ">=") {
			return nil, fmt.Errorf("line %d: expects benchmark, unit, <= or >=, a number and the reason, got %q", line, l)
		}
		value, err := strconv.ParseFloat(fields[3], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		goals = append(goals, goal{fields[0], fields[1], fields[2] == ">=", value, strings.Join(fields[4:], " ")})
	}
	return goals, nil
}

// readFigures reads the output of `go test -bench`. ran has the benchmarks that
// began, without those below them, whether or not they have figures.
func readFigures(text string) (figures []figure, ran map[string]bool) {
	processors := regexp.MustCompile(`-\d+$`)
	ran = map[string]bool{}
	pkg := ""
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "pkg:" {
			pkg = strings.TrimPrefix(fields[1], "moonseal/")
			continue
		}
		name, ok := strings.CutPrefix(strings.TrimPrefix(line, "--- FAIL: "), "Benchmark")
		if !ok {
			continue
		}
		fields = strings.Fields(name)
		name = pkg + "." + processors.ReplaceAllString(fields[0], "")
		ran[top(name)] = true
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				figures = append(figures, figure{name, fields[i+1], value})
			}
		}
	}
	return figures, ran
}

// top is the name of the benchmark that a sub-benchmark is part of.
func top(name string) string {
	slash := strings.LastIndexByte(name, '/')
	for dot := strings.LastIndexByte(name, '.'); slash > dot; slash = strings.LastIndexByte(name, '/') {
		name = name[:slash]
	}
	return name
}

// telling matches the units of figures that are shown without a goal too: those that
// are compared with something, or that a user feels.
var telling = regexp.MustCompile(`ratio|ms/first-|ms/last-|ms-.*(p50|p99|max)$|ms-from-|questions|MB-|of-core|s-one-run|ms/floor|^(cpu-)?s-`)

// judge prints each figure beside its goal, and then the goals of benchmarks that ran
// without such a figure. It returns how many goals were missed.
func judge(w io.Writer, goals []goal, output string) (missed int) {
	figures, ran := readFigures(output)
	met := make([]bool, len(goals))
	for _, f := range figures {
		verdict := ""
		for i, g := range goals {
			if !g.of(f) {
				continue
			}
			met[i] = true
			verdict = g.String()
			if g.missed(f) {
				missed++
				verdict += "  missed: " + g.why
			}
			break
		}
		if verdict != "" || telling.MatchString(f.unit) {
			line := fmt.Sprintf("%-44s %12s %-24s %s", f.name, number(f.value), f.unit, verdict)
			_, _ = plain.Fprintf(w, "%s\n", strings.TrimRight(line, " "))
		}
	}
	for i, g := range goals {
		if !met[i] && ran[top(g.name)] {
			_, _ = plain.Fprintf(w, "%-44s %12s %-24s %s\n", g.name, "no figure", g.unit, g)
		}
	}
	return missed
}

func allGoals(t *testing.T) []goal {
	t.Helper()
	goals, err := readGoals(read(t, filepath.Join("testdata", "bench.goals")))
	if err != nil {
		t.Fatal(err)
	}
	return goals
}

// TestFigures judges what `make bench` measured.
func TestFigures(t *testing.T) {
	path := os.Getenv(figuresVariable)
	if path == "" {
		t.Skip(figuresVariable + " names no output of benchmarks; make bench sets it")
	}
	if missed := judge(os.Stdout, allGoals(t), read(t, path)); missed > 0 {
		t.Errorf("goals missed: %d", missed)
	}
}

// TestGoals looks for the benchmark of each goal, which a renamed one would lose.
func TestGoals(t *testing.T) {
	for _, g := range allGoals(t) {
		name := top(g.name)
		dot := strings.LastIndexByte(name, '.')
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(name[:dot]), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			found = found || strings.Contains(read(t, file), "\nfunc Benchmark"+name[dot+1:]+"(")
		}
		if !found {
			t.Errorf("%s: there is no such benchmark", g.name)
		}
	}
}

func TestJudge(t *testing.T) {
	goals, err := readGoals(`# a comment

a.Quick     ms-p99   <= 250  it is felt
a.Quick     ms-most  <= 300  it is felt
a.Fast/*    ratio    >= 4    what it is for
b.Same      MB-held  <= 10   small machines
b.NotRun    ratio    >= 2    nothing
b.Failed/*  ratio    >= 2    nothing
`)
	if err != nil {
		t.Fatal(err)
	}
	const output = `goos: linux
pkg: moonseal/a
BenchmarkQuick-2       	     100	  120000 ns/op	       250.0 ms-p99	     7.500 ms-p50
BenchmarkFast/24-2     	       1	       4.100 ratio	      12 µs/peer
BenchmarkFast/a_b-2    	       1	       3.900 ratio
BenchmarkPlain         	  200000	    5 ns/op
PASS
pkg: moonseal/b
BenchmarkQuick-2       	     100	       999.0 ms-p99
BenchmarkSame          	       1	        10.01 MB-held
--- FAIL: BenchmarkFailed
`
	const want = `a.Quick                                               250 ms-p99                   at most 250
a.Quick                                               7.5 ms-p50
a.Fast/24                                             4.1 ratio                    at least 4
a.Fast/a_b                                            3.9 ratio                    at least 4  missed: what it is for
b.Quick                                               999 ms-p99
b.Same                                              10.01 MB-held                  at most 10  missed: small machines
a.Quick                                         no figure ms-most                  at most 300
b.Failed/*                                      no figure ratio                    at least 2
`
	var got bytes.Buffer
	if missed := judge(&got, goals, output); missed != 2 || got.String() != want {
		t.Errorf("%d missed, want 2:\n%s\nwant\n%s", missed, got.String(), want)
	}
}

// TestMissedGoalFails has TestFigures judge a figure that misses its goal, and one that
// meets it.
func TestMissedGoalFails(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		value string
		fails bool
		says  string
	}{{"5.9", false, "at most 6\n"}, {"6.1", true, "at most 6  missed: "}} {
		path := filepath.Join(t.TempDir(), "bench.txt")
		text := "pkg: moonseal/cmd/moonseal/cli\nBenchmarkRunToFirstStep-2 1 " + c.value + " ratio\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^TestFigures$")
		cmd.Env = append(os.Environ(), figuresVariable+"="+path)
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.fails || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v\n%s", c.value, err, out)
		}
	}
}

func TestGoalsThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"a.B ratio < 4 why\n":     "line 1: expects",
		"\na.B ratio <= 4\n":      "line 2: expects",
		"a.B ratio <= four why\n": "line 1: strconv",
	} {
		if _, err := readGoals(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
