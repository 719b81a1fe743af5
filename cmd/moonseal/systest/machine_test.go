package systest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// installation is moonseal as an administrator installs it on a machine; the site,
// with its lab, is on the machine that the test runs on, where a power cut does not reach it.
type installation struct {
	*machine

	s *site
}

// The daemon under a systemd that is a machine's first process, with cgroups that
// it was delegated, and through a power cut. The parts follow on each other.
func TestMachine(t *testing.T) {
	m := &installation{machine: newMachine(t), s: newLabSite(t, 50*time.Millisecond, "cucm01-pub", "drained", "stopped", "hung", "timed", "dark")}
	m.build()
	m.boot()
	for _, part := range []struct {
		name string
		does func()
	}{
		{"installed as the README says", m.install},
		{"a first renewal by a member of the group", m.renews},
		{"no other user may", m.refuses},
		{"its confinement holds in the unit", m.confines},
		{"a memory bomb is the run's own end", m.bomb},
		{"the unit's memory is the runs' to lose", m.crowded},
		{"a reload reads again", m.reloads},
		{"a stop lets steps end", m.drains},
		{"a stop ends what takes too long", m.stops},
		{"the watchdog ends a daemon that hangs", m.hangs},
		{"a timer does without a daemon", m.timed},
		{"the journal has levels and no secrets", m.logs},
		{"a power cut", m.goesDark},
	} {
		if !t.Run(strings.ReplaceAll(part.name, " ", "_"), func(t *testing.T) {
			whole := m.t
			m.runsIn(t)
			defer m.runsIn(whole)
			part.does()
		}) {
			said, _ := m.try("systemctl status moonseal; journalctl --no-pager -n 40; tail -n 20 /tmp/*.out")
			t.Fatal(said)
		}
	}
}

// runsIn makes t the test that fails.
func (m *installation) runsIn(t *testing.T) { m.t, m.s.t, m.s.lab.t = t, t, t }

// build adds what is installed, and a program that attacks from within.
func (m *installation) build() {
	m.t.Helper()
	files := map[string][]byte{}
	for name, args := range map[string][]string{
		"bin/moonseal": {"build", "-buildvcs=false", "./cmd/moonseal"},
		"bin/attacks":  {"test", "-c", "./runtime/worker"},
	} {
		out := filepath.Join(m.dir, filepath.Base(name))
		args = slices.Insert(args, len(args)-1, "-o", out)
		cmd := exec.CommandContext(m.t.Context(), "go", args...)
		cmd.Dir = root
		if said, err := cmd.CombinedOutput(); err != nil {
			m.t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, said)
		}
		var err error
		files[name], err = os.ReadFile(out)
		m.check(err)
	}
	for _, name := range []string{"systemd/moonseal.service", "timer/moonseal-run.service", "timer/moonseal-run.timer"} {
		files["examples/"+name] = []byte(read(m.t, filepath.Join(examples, name)))
	}
	files["ca.pem"] = []byte(read(m.t, filepath.Join(m.s.dir, "ca.pem")))
	m.bring(files)
}

// typed returns those commands of the README's installation that match, as they are typed,
// without comments.
func (m *installation) typed(matches string) string {
	m.t.Helper()
	_, rest, _ := strings.Cut(read(m.t, filepath.Join(root, "README.md")), "\n## Install")
	section, _, _ := strings.Cut(rest, "\n## ")
	var lines []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, " #")
			if regexp.MustCompile(matches).MatchString(line) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	if len(lines) == 0 {
		m.t.Fatalf("the README's installation has no command like %s", matches)
	}
	return strings.Join(lines, "\n")
}

// install types what the README says.
func (m *installation) install() {
	m.do(m.typed("^sudo (install bin/|install -d -o|useradd|moonseal init)"))
	m.configure("")
	m.do(`cd /etc/moonseal
sed -i 's/example\.com/automate.builders/' scripts/first.lua
cp ~/moonseal/ca.pem .
install -d -m 0700 secrets`)
	credentials := "[Service]\n"
	for _, name := range []string{"CUCM_USERNAME", "CUCM_PASSWORD", "CF_API_TOKEN"} {
		path := "/etc/moonseal/secrets/" + name
		m.write(path, m.s.env[name])
		m.do("chmod 0600 " + path)
		credentials += "LoadCredential=" + name + ":" + path + "\n"
	}
	trust := m.typed("^sudo .*trust ")
	m.says(0, "echo yes | "+trust, "cucm01-pub.automate.builders")
	for _, host := range []string{"drained", "stopped", "hung", "timed", "dark"} {
		m.do("sudo -u moonseal moonseal trust --yes " + host + ".automate.builders")
	}
	m.do(m.typed("^moonseal check"))

	m.do(m.typed("^sudo (install -m 0644 examples/systemd/|systemctl daemon-reload)"))
	m.write("/etc/systemd/system/moonseal.service.d/override.conf", credentials) // systemctl edit needs a terminal
	m.do("systemctl daemon-reload")
	m.says(0, m.typed("^sudo (systemctl enable|moonseal doctor|moonseal status)"), "first", "ok   daemon", "ok   secret CUCM_PASSWORD  ")
	m.says(0, "sudo -u moonseal moonseal doctor", "ok   daemon", "ok   node cucm01-pub.automate.builders SSH", "ok   clock")
	m.says(0, m.typed("secret test"), "CUCM_PASSWORD")
	m.says(0, "systemctl status moonseal", "Active: active (running)", `Status: "1 playbook"`)
	m.says(0, "systemd-analyze verify --man=no moonseal.service")
	m.says(0, "systemd-analyze security --no-pager --threshold=15 moonseal.service", "Overall exposure level for moonseal.service")
	if said := m.do("journalctl --no-pager --quiet -u moonseal -p warning"); said != "" {
		m.t.Errorf("it warns: %s", said)
	}
	m.do("useradd --create-home alice && usermod --append --groups moonseal,sudo alice && echo '%sudo ALL=NOPASSWD: ALL' >/etc/sudoers.d/all")
}

// configure writes the lines and what leads to the lab below the config that
// init wrote.
func (m *installation) configure(lines string) {
	m.t.Helper()
	m.do("cd /etc/moonseal && [ -e init.yaml ] || cp moonseal.yaml init.yaml")
	m.write("/etc/moonseal/lab.yaml", m.toLab("listen: { socket: /run/moonseal/moonseal.sock, group: moonseal }\n"+lines))
	m.do("cd /etc/moonseal && cat init.yaml lab.yaml >new.yaml && mv new.yaml moonseal.yaml")
}

// toLab returns what a config needs to lead from the machine to the lab, and the lines.
func (m *installation) toLab(lines string) string {
	m.t.Helper()
	var cfg map[string]any
	text := strings.ReplaceAll(read(m.t, m.s.config()), "127.0.0.1", "10.0.2.2")
	m.check(yaml.Unmarshal([]byte(text), &cfg))
	maps.DeleteFunc(cfg, func(key string, _ any) bool { return !slices.Contains([]string{"hosts", "modules", "ca_bundle"}, key) })
	out, err := yaml.Marshal(cfg)
	m.check(err)
	return string(out) + lines
}

// playbook makes a playbook live that renews the node's certificate.
func (m *installation) playbook(host string) {
	m.t.Helper()
	m.write("/etc/moonseal/scripts/"+host+".lua", renewal(host))
	m.do("sudo -u alice moonseal reload")
}

// begin lets the playbook begin, while a fault holds its call, and returns its run.
func (m *installation) begin(playbook string, fault fault) (run string, hold int) {
	m.t.Helper()
	hold = m.s.lab.add(fault)
	m.do("setsid -f sudo -u alice moonseal run " + playbook + " --force >/tmp/" + playbook + ".out 2>&1")
	m.s.lab.held(nil, hold)
	return m.latest(playbook), hold
}

// latest returns the playbook's latest run.
func (m *installation) latest(playbook string) string {
	m.t.Helper()
	said := m.do("sudo -u alice moonseal runs --limit 1 --json --playbook " + playbook)
	found := regexp.MustCompile(`"[Ii][Dd]":\s*"([0-9a-z]{10})"`).FindStringSubmatch(said)
	if found == nil {
		m.t.Fatalf("there is no run of %s: %s", playbook, said)
	}
	return found[1]
}

// ends waits until the run has ended, well, with one certificate and one upload.
func (m *installation) ends(run, host string) {
	m.t.Helper()
	m.says(0, "timeout 120 sudo -u alice moonseal logs -f "+run, "run done")
	m.once(host)
}

// once checks that the host has one certificate, uploaded once and served.
func (m *installation) once(host string) {
	m.t.Helper()
	issued := m.issued(host)
	host += ".automate.builders"
	l := m.s.lab.ledger()
	uploads := 0
	for _, u := range l.Uploads {
		if u.Node == host && u.Kind == "identity" {
			uploads++
		}
	}
	if len(issued) != 1 || uploads != 1 || l.Served[host] != issued[0] {
		m.t.Errorf("%s serves %s; issued %v; %d uploads", host, l.Served[host], issued, uploads)
	}
	for _, r := range l.TXT.Present {
		if strings.HasSuffix(r.Name, "."+host) {
			m.t.Errorf("a TXT record is left: %v", r)
		}
	}
}

// issued returns the fingerprints of the certificates that the CA has issued for the host.
func (m *installation) issued(host string) (all []string) {
	m.t.Helper()
	for _, c := range m.s.lab.ledger().Certificates {
		if slices.Contains(c.Identifiers, host+".automate.builders") {
			all = append(all, c.SHA256)
		}
	}
	return all
}

// property returns what systemd knows of the unit.
func (m *installation) property(name string) string {
	m.t.Helper()
	return m.do("systemctl show --value -p " + name + " moonseal")
}

// until waits until the script says so.
func (m *installation) until(script string) {
	m.t.Helper()
	m.do("timeout 60 bash -c 'until " + script + "; do sleep 0.2; done'")
}
