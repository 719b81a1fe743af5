package control_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// seeds is how many seeds a mutant is looked for with, and found how many of them must
// find it.
const (
	seeds      = 10
	foundSeeds = 9
)

// A mutant is a bug that the engine once had, as a patch. One that does not apply any more
// must be written anew, for the code that now keeps the bug out.
func TestMutantsApply(t *testing.T) {
	names := mutants(t)
	if len(names) < 7 {
		t.Errorf("only %v", names)
	}
	for _, name := range names {
		if _, err := mutated(name); err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
	}
}

// The simulator finds each mutant with nearly each seed, in as many cases as it has in a
// normal run of the tests. It takes an hour: make mutants.
func TestMutants(t *testing.T) {
	pattern := os.Getenv("MOONSEAL_MUTANTS") // such as row0*
	if pattern == "" {
		t.Skip("make mutants runs it")
	}
	fmt.Printf("%-28s %-8s %s\n", "mutant", "found", "median cases")
	for _, name := range mutants(t) {
		mutant := strings.TrimSuffix(filepath.Base(name), ".patch")
		if chosen, err := filepath.Match(pattern, mutant); err != nil || !chosen {
			continue
		}
		binary := buildMutant(t, name)
		var tries []int
		for seed := range seeds {
			if n, found := hunt(t, binary, seed+1); found {
				tries = append(tries, n)
			}
		}
		median := "-"
		if slices.Sort(tries); len(tries) > 0 {
			median = strconv.Itoa(tries[len(tries)/2])
		}
		fmt.Printf("%-28s %2d of %2d %s\n", mutant, len(tries), seeds, median)
		if len(tries) < foundSeeds {
			t.Errorf("%s is found with %d of %d seeds only", mutant, len(tries), seeds)
		}
	}
}

func mutants(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "mutants", "*.patch"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// buildMutant compiles this package's tests with a patch applied to the engine.
func buildMutant(t *testing.T, patch string) string {
	t.Helper()
	files, err := mutated(patch)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for path, text := range files {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", patch, err, out)
	}
	return binary
}

// hunt runs the simulator of a mutant, and returns after how many cases it was found.
func hunt(t *testing.T, binary string, seed int) (n int, found bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestSimulator$", "-test.timeout", "0",
		"-rapid.seed", strconv.Itoa(seed), "-rapid.nofailfile", "-rapid.shrinktime", "1ms")
	cmd.Dir = t.TempDir() // no fail file of a fixed bug is to find it
	out, err := cmd.CombinedOutput()
	after := regexp.MustCompile(`\[rapid\] (?:failed|panic) after (\d+) tests`).FindSubmatch(out)
	switch {
	case err == nil || strings.Contains(string(out), "[rapid] flaky test"): // what cannot be repeated does not count
		return 0, false
	case after == nil:
		t.Fatalf("seed %d: %v\n%s", seed, err, out)
	}
	n, err = strconv.Atoi(string(after[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n + 1, true
}

// mutated returns the files that a patch changes, by their absolute paths, as it leaves
// them. What stands in a hunk must be in the file once, on whatever lines.
func mutated(patch string) (map[string]string, error) {
	raw, err := os.ReadFile(patch)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, part := range strings.Split(string(raw), "\n--- a/")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		path := filepath.Join(root, filepath.FromSlash(name))
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[path] = string(text)
		for _, hunk := range strings.Split(rest, "\n@@")[1:] {
			_, body, _ := strings.Cut(hunk, "\n")
			was, is := sides(body)
			if n := strings.Count(files[path], was); n != 1 {
				return nil, fmt.Errorf("%s has this %d times:\n%s", name, n, was)
			}
			files[path] = strings.Replace(files[path], was, is, 1)
		}
	}
	return files, nil
}

// sides returns what a hunk replaces, and by what.
func sides(hunk string) (was, is string) {
	for line := range strings.Lines(strings.TrimRight(hunk, "\n") + "\n") {
		switch {
		case strings.HasPrefix(line, "-"):
			was += line[1:]
		case strings.HasPrefix(line, "+"):
			is += line[1:]
		case strings.HasPrefix(line, " "):
			was, is = was+line[1:], is+line[1:]
		default: // an empty line whose space was trimmed
			was, is = was+line, is+line
		}
	}
	return was, is
}
