package cli

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// blocks returns the README's code blocks of a language in one of its sections.
func blocks(t *testing.T, section, language string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, filepath.Join(root, "README.md")), "\n## "+section+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	if !ok || len(out) == 0 {
		t.Fatalf("the README's section %q has no %s", section, language)
	}
	return out
}

// standIns are for the commands that need a machine of their own, or an editor.
const standIns = `
sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }
useradd() { :; }
make() { :; }
install() { # without owners and groups
	n=$#
	while [ $n -gt 0 ]; do
		arg=$1; shift; n=$((n-1))
		case $arg in -o|-g) shift; n=$((n-1)) ;; *) set -- "$@" "$arg" ;; esac
	done
	command install "$@"
}
sudoedit() {
	case $1 in
	*/first.lua) sed -i s/example.com/automate.builders/ "$1" ;;
	*/moonseal.yaml) cat added.yaml >>"$1" ;;
	*) return 1 ;;
	esac
}
`

// The README's installation can be typed line by line: each finds what it needs.
func TestReadmeInstallation(t *testing.T) {
	w := newLabSite(t)
	top := t.TempDir()
	etc := filepath.Join(top, "etc", "moonseal")
	w.check(os.MkdirAll(filepath.Join(etc, "bin"), 0o755))
	w.check(os.MkdirAll(filepath.Join(top, "bin"), 0o755))
	w.check(os.Symlink(program(t), filepath.Join(etc, "bin", "moonseal")))
	w.check(os.WriteFile(filepath.Join(etc, "added.yaml"), []byte("state: "+filepath.Join(top, "state")+"\n"+w.toLab()+strings.Join(blocks(t, "Install and configure", "yaml"), "")), 0o600))
	places := strings.NewReplacer("/etc/moonseal", etc, "/usr/local/bin", filepath.Join(top, "bin"), "/var/lib/moonseal", filepath.Join(top, "state"))
	typed := func(line string) (said string, code int) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", standIns+places.Replace(line))
		cmd.Dir, cmd.Env = etc, []string{"PATH=" + filepath.Join(top, "bin") + ":" + os.Getenv("PATH"), "HOME=" + top, raceVariable + "=" + os.Getenv(raceVariable)}
		cmd.Stdin = strings.NewReader("yes\n")
		if strings.Contains(line, "/dev/stdin") {
			cmd.Stdin = strings.NewReader(w.env[path.Base(line)] + "\n")
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			w.check(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	var last string
	for line := range strings.Lines(strings.Join(blocks(t, "Install and configure", "sh"), "")) {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		said, code := typed(line)
		want := exitDone
		if strings.HasSuffix(line, "run first") {
			want = exitWaiting // it asks
		}
		if code != want {
			t.Fatalf("%s\nexit code %d, want %d:\n%s", line, code, want, said)
		}
		last = said
	}
	approve := regexp.MustCompile("moonseal approve [0-9a-z]+").FindString(last)
	for _, line := range []string{approve, "moonseal run first"} {
		if said, code := typed(line); code != exitDone {
			t.Fatalf("%s\nexit code %d:\n%s", line, code, said)
		}
	}
	w.renewed()
}

// toLab is what a config needs to lead to the lab.
func (s *site) toLab() string {
	s.t.Helper()
	var cfg map[string]any
	s.check(yaml.Unmarshal([]byte(read(s.t, s.config())), &cfg))
	maps.DeleteFunc(cfg, func(key string, _ any) bool { return !slices.Contains([]string{"hosts", "modules", "ca_bundle"}, key) })
	if file, _ := cfg["ca_bundle"].(string); !filepath.IsAbs(file) {
		cfg["ca_bundle"] = filepath.Join(s.dir, file)
	}
	out, err := yaml.Marshal(cfg)
	s.check(err)
	return string(out)
}
