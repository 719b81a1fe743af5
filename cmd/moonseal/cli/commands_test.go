package cli

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commandTest is a command with the scripts in testdata that test it.
type commandTest struct {
	command string
	modes   modes
	twice   []string // without a daemon, and with one in the background
	once    []string // as they are; some start a daemon themselves
}

// modes are the ways in which a command can be used.
type modes int

const (
	either     modes = iota // with a daemon and without one
	daemonful               // only with a daemon
	foreground              // never through a daemon
)

// commandTests is the list from which every command's scripts are run.
func commandTests() []commandTest {
	return []commandTest{
		{"status", daemonful, nil, []string{"failing", "gone", "neverran", "newuser"}},
		{"runs", either, []string{"cancel", "waiting", "playbooks", "json"}, []string{"run", "restartonce"}},
		{"logs", either, []string{"ask", "parked", "json"}, []string{"run"}},
		{"doctor", either, []string{"doctor", "json"}, []string{"named", "tenant", "owner", "trustedca"}},
		{"check", either, []string{"check", "json"}, []string{"config", "hooks", "notoffered", "init", "stubs", "neverran"}},
		{"run", either, []string{"ask", "cancel", "waiting", "locks", "json"}, []string{
			"run", "broken", "fat", "hostile", "rehearse", "renewalinfo", "restartonce", "window", "hooks", "named", "foldergone",
		}},
		{"approve", either, []string{"ask", "parked"}, []string{"newuser"}},
		{"deny", either, []string{"ask"}, []string{"newuser"}},
		{"resume", either, []string{"parked", "ask"}, []string{"restartonce"}},
		{"cancel", either, []string{"cancel", "parked"}, []string{"newuser", "restartonce"}},
		{"unlock", either, []string{"locks"}, nil},
		{"cleanup list", either, []string{"cleanup", "forget", "json"}, []string{"usage"}},
		{"cleanup retry", either, []string{"cleanup"}, []string{"broken"}},
		{"cleanup forget", either, []string{"forget", "waiting"}, nil},
		{"forget", either, []string{"playbooks"}, []string{"gone"}},
		{"pause", either, []string{"playbooks"}, []string{"newuser"}},
		{"unpause", either, []string{"playbooks"}, []string{"newuser"}},
		{"reload", daemonful, nil, []string{"reconfigure", "newuser", "hooks", "gone"}},
		{"init", foreground, nil, []string{"init"}},
		{"secret list", either, []string{"secret", "json"}, nil},
		{"secret test", either, []string{"secret"}, []string{"newuser", "reconfigure"}},
		{"trust", foreground, nil, []string{"trust", "tenant", "rehearse", "owner"}},
		{"alert test", either, []string{"alert"}, nil},
		{"serve", foreground, nil, []string{"newuser", "reconfigure", "gone", "failing", "backup", "owner"}},
		{"backup", either, []string{"backup"}, []string{"newuser"}},
		{"restore", foreground, nil, []string{"backup"}},
		{"demo", foreground, nil, []string{"demo"}},
		{"lab", foreground, nil, []string{"run"}},
		{"stubs", foreground, nil, []string{"stubs"}},
		{"version", foreground, nil, []string{"version"}},
	}
}

// twiceScripts are the files of the scripts that run in both modes.
func twiceScripts() []string {
	var files []string
	for _, c := range commandTests() {
		for _, name := range c.twice {
			files = append(files, filepath.Join("testdata", name+".txtar"))
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// TestCommandTests checks that the list is whole: it has every command and every script, and
// a script uses each command that it is listed for.
func TestCommandTests(t *testing.T) {
	listed, scripts := map[string]bool{}, map[string]bool{}
	for _, c := range commandTests() {
		listed[c.command] = true
		if c.modes == either && len(c.twice) == 0 {
			t.Errorf("no script tests moonseal %s in both modes", c.command)
		}
		if c.modes != either && len(c.twice) > 0 {
			t.Errorf("moonseal %s has one mode only, and is tested in both", c.command)
		}
		for _, name := range slices.Concat(c.twice, c.once) {
			scripts[name] = true
			text := read(t, filepath.Join("testdata", name+".txtar"))
			if !regexp.MustCompile(`(?m)^[^#]*\bmoonseal ` + c.command + `\b`).MatchString(text) {
				t.Errorf("%s.txtar does not use moonseal %s", name, c.command)
			}
		}
	}
	for _, file := range twiceScripts() {
		if !strings.Contains(read(t, file), "\ndaemon ") {
			t.Errorf("%s starts no daemon with the command daemon", file)
		}
	}
	for _, c := range leaves((&app{}).root()) {
		if name := strings.TrimPrefix(c.CommandPath(), "moonseal "); !listed[name] {
			t.Errorf("moonseal %s is not in the list", name)
		}
		delete(listed, strings.TrimPrefix(c.CommandPath(), "moonseal "))
	}
	for name := range listed {
		t.Errorf("there is no command %s", name)
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".txtar"); !scripts[name] {
			t.Errorf("%s is in no entry of the list", file)
		}
	}
}

// leaves returns the commands that have none below them.
func leaves(c *cobra.Command) []*cobra.Command {
	if !c.HasSubCommands() {
		return []*cobra.Command{c}
	}
	var out []*cobra.Command
	for _, below := range c.Commands() {
		out = append(out, leaves(below)...)
	}
	return out
}
