package systest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// session is what one reader of some documents types, from the first line to the last: in
// a terminal of its own, with a checkout as its folder.
type session struct {
	documents []string // from the top level
	machine   bool     // they install moonseal, so the lab is there before the first line
}

// TestTyped types every shell line of the documents. A line exits with 0, or with the code
// in its comment, "# exit code 5". RUN stands for the run that was shown last. Paths of
// the machine lead into a folder of the test.
func TestTyped(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	for _, s := range []session{
		{[]string{"README.md", "examples/operate/README.md"}, true},
		{[]string{"examples/cluster/README.md"}, false},
		{[]string{"examples/msp/README.md"}, false},
	} {
		t.Run(strings.ReplaceAll(s.documents[0], "/", "-"), func(t *testing.T) {
			t.Parallel()
			typed := newTypist(t)
			if s.machine {
				typed.machine()
			}
			for _, name := range s.documents {
				text := read(t, filepath.Join(root, filepath.FromSlash(name)))
				n := 0
				for i, line := range strings.Split(text, "\n") {
					switch {
					case line == "```sh":
						n = i + 1
					case strings.HasPrefix(line, "```"):
						n = 0
					case n > 0:
						typed.line(fmt.Sprintf("%s:%d", name, i+1), line)
					}
				}
			}
		})
	}
}

// TestNoDocumentIsForgotten finds the documents with shell lines that no session types.
func TestNoDocumentIsForgotten(t *testing.T) {
	text := read(t, "typed_test.go")
	for _, name := range documents(t) {
		if strings.Contains(read(t, filepath.Join(root, name)), "\n```sh\n") && !strings.Contains(text, strconv.Quote(filepath.ToSlash(name))) {
			t.Errorf("no session of TestTyped types %s", name)
		}
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

// typist is a shell, and what is around it.
type typist struct {
	t     *testing.T
	top   string // what the paths of the machine lead into
	stdin io.Writer
	lines *bufio.Reader
	kill  func()
	run   string // shown last
	paths *strings.Replacer
}

// standIns replace what needs a machine of its own, an editor, or what .ci/run does anyway.
const standIns = `
exec 2>&1
sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }
useradd() { :; }
make() { :; } # .ci/run runs make demo and make test, and the program is built
install() { # without owners and groups
	local args=()
	while [ $# -gt 0 ]; do
		case $1 in -o|-g) shift 2 ;; *) args+=("$1"); shift ;; esac
	done
	command install "${args[@]}"
}
sudoedit() {
	case $1 in
	*/first.lua) sed -i s/example.com/automate.builders/ "$1" ;;
	*/moonseal.yaml) cat added.yaml >>"$1" ;;
	*) return 1 ;;
	esac
}
systemctl() {
	case "$*" in
	daemon-reload) ;;
	"enable --now moonseal") moonseal serve >>"$TOP/daemon.log" & started "$TOP/var/lib/moonseal" ;;
	"restart moonseal") kill %moonseal; wait %moonseal; moonseal serve >>"$TOP/daemon.log" & started "$TOP/var/lib/moonseal" ;;
	"reload moonseal") moonseal reload ;;
	*) return 1 ;;
	esac
}
started() { until moonseal status >/dev/null; do kill -0 %% || return 1; done; }
`

// newTypist starts the shell, in a checkout.
func newTypist(t *testing.T) *typist {
	t.Helper()
	x := &typist{t: t, top: t.TempDir()}
	checkout := filepath.Join(x.top, "checkout")
	for _, dir := range []string{"checkout/bin", "usr/local/bin", "etc/systemd/system", "var/backups", "var/lib"} {
		x.must(os.MkdirAll(filepath.Join(x.top, dir), 0o755))
	}
	// The installed program finds /etc/moonseal/moonseal.yaml, if the current directory has none.
	x.must(os.WriteFile(filepath.Join(checkout, "bin", "moonseal"), []byte(`#!/bin/sh
config='`+filepath.Join(x.top, "etc", "moonseal", "moonseal.yaml")+`'
if [ -e "$config" ] && [ ! -e moonseal.yaml ]; then set -- --config "$config" "$@"; fi
exec '`+program+`' "$@"
`), 0o755))
	here, err := filepath.Abs(root)
	x.must(err)
	x.must(os.CopyFS(filepath.Join(checkout, "examples"), os.DirFS(filepath.Join(here, "examples"))))
	var pairs []string
	for _, dir := range []string{"/etc/moonseal", "/etc/systemd/system", "/usr/local/bin", "/var/backups", "/var/lib/moonseal", "/tmp/world", "/tmp/msp"} {
		pairs = append(pairs, dir, filepath.Join(x.top, dir))
	}
	x.paths = strings.NewReplacer(pairs...)
	x.must(os.MkdirAll(filepath.Join(x.top, "tmp"), 0o755))

	cmd := exec.Command("bash", "--norc")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = checkout, x.environ(), &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	x.must(err)
	out, err := cmd.StdoutPipe()
	x.must(err)
	x.must(cmd.Start())
	x.stdin, x.lines, x.kill = in, bufio.NewReader(out), func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	t.Cleanup(func() {
		late := time.AfterFunc(patience, x.kill)
		defer late.Stop()
		_, _ = io.WriteString(in, "kill $(jobs -p)\nwait\nexit\n") // what still runs in the background
		_, _ = io.Copy(io.Discard, x.lines)
		_ = cmd.Wait()
	})
	if said, code := x.typed(standIns, ""); code != 0 {
		t.Fatalf("the stand-ins: %d\n%s", code, said)
	}
	return x
}

func (x *typist) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *typist) environ() []string {
	return []string{
		"PATH=" + filepath.Join(x.top, "usr", "local", "bin") + ":" + os.Getenv("PATH"), "HOME=" + x.top, "TOP=" + x.top,
		raceVariable + "=" + os.Getenv(raceVariable),
	}
}

// machine starts the lab to which the installed moonseal's config leads. What the README
// shows as YAML is added to that config with it.
func (x *typist) machine() {
	x.t.Helper()
	world := filepath.Join(x.top, "tmp", "machine")
	x.lab("moonseal lab --outage 50ms --dir " + world)
	lab := read(x.t, filepath.Join(world, "moonseal.yaml"))
	lab = regexp.MustCompile(`(?m)^(replay|scripts|state):.*\n`).ReplaceAllString(lab, "")
	lab = strings.Replace(lab, "ca_bundle: ", "ca_bundle: "+world+"/", 1)
	shown := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(read(x.t, filepath.Join(root, "README.md")), -1)
	if len(shown) == 0 {
		x.t.Fatal("the README shows nothing of the config")
	}
	added := lab + "state: " + filepath.Join(x.top, "var", "lib", "moonseal") + "\nalerts: { urls: [ALERTS] }\n"
	for _, block := range shown {
		added += block[1]
	}
	added += "  ALERTS: { file: " + filepath.Join(x.top, "alerts") + " }\n" // the last block is that of the secrets
	x.must(os.WriteFile(filepath.Join(x.top, "alerts"), []byte("logger://"), 0o600))
	x.must(os.WriteFile(filepath.Join(x.top, "checkout", "added.yaml"), []byte(added), 0o600))
}

// lab runs the command in another terminal, until the test ends.
func (x *typist) lab(line string) {
	x.t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+line)
	cmd.Dir, cmd.Env = filepath.Join(x.top, "checkout"), append(x.environ(), "PATH="+filepath.Join(x.top, "checkout", "bin")+":"+os.Getenv("PATH"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	x.must(err)
	x.must(cmd.Start())
	x.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "lab ready" {
			return
		}
	}
	x.t.Fatalf("%s: %v\n%s", line, lines.Err(), stderr.String())
}

var (
	exitComment = regexp.MustCompile(`# exit code (\d)`)
	namedRun    = regexp.MustCompile(`\brun ([0-9a-z]{10})\b`)
)

// line types one line, and compares its exit code.
func (x *typist) line(at, line string) {
	x.t.Helper()
	want := 0
	if m := exitComment.FindStringSubmatch(line); m != nil {
		want, _ = strconv.Atoi(m[1])
	}
	line, _, _ = strings.Cut(line, " #")
	line = strings.TrimSpace(x.paths.Replace(regexp.MustCompile(`\bRUN\b`).ReplaceAllString(line, x.run)))
	if line == "" {
		return
	}
	if strings.Contains(line, "moonseal lab ") {
		x.lab(strings.Replace(line, " lab ", " lab --outage 50ms ", 1))
		return
	}
	input := "yes\n"
	if strings.Contains(line, "/dev/stdin") {
		input = x.secret(filepath.Base(line))
	}
	said, code := x.typed(line, input)
	if code != want {
		x.t.Fatalf("%s: %s\nexit code %d, want %d:\n%s", at, line, code, want, said)
	}
	if m := namedRun.FindAllStringSubmatch(said, -1); m != nil {
		x.run = m[len(m)-1][1]
	}
	if strings.HasSuffix(line, "serve &") {
		if said, code := x.typed("started", ""); code != 0 {
			x.t.Fatalf("%s: %s\nit does not start:\n%s", at, line, said)
		}
	}
}

// secret is what is typed into a secret's file: the lab's value.
func (x *typist) secret(name string) string {
	x.t.Helper()
	for line := range strings.Lines(read(x.t, filepath.Join(x.top, "tmp", "machine", "lab.env"))) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	x.t.Fatalf("the lab has no secret %s", name)
	return ""
}

// typed has the shell execute text, with input on its stdin, and returns what it shows
// and its exit code.
func (x *typist) typed(text, input string) (said string, code int) {
	x.t.Helper()
	const mark = "the line has ended with "
	file := filepath.Join(x.top, "stdin")
	x.must(os.WriteFile(file, []byte(input), 0o600))
	late := time.AfterFunc(patience, x.kill)
	defer late.Stop()
	_, err := fmt.Fprintf(x.stdin, "{ %s\n} <%s\ncode=$?; echo; echo \"%s$code\"\n", text, file, mark)
	x.must(err)
	for {
		line, err := x.lines.ReadString('\n')
		if err != nil {
			x.t.Fatalf("%s: the shell has ended: %v\n%s", text, err, said)
		}
		if rest, ok := strings.CutPrefix(line, mark); ok {
			code, err := strconv.Atoi(strings.TrimSpace(rest))
			x.must(err)
			return said, code
		}
		said += line
	}
}
