package systest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// imageVariable names a file that holds the image of examples/container.
const imageVariable = "MOONSEAL_IMAGE"

// The image as its compose file runs it, by an engine that has a systemd.
func TestImage(t *testing.T) {
	path := os.Getenv(imageVariable)
	if path == "" {
		t.Skip(imageVariable + " names no image: make imagetest builds one")
	}
	m := &installation{machine: newMachine(t), s: newLabSite(t, 50*time.Millisecond, "cucm01-pub", "stopped")}
	image, err := os.ReadFile(path)
	m.check(err)
	files := map[string][]byte{
		"image.tar": image, "moonseal/compose.yaml": []byte(read(t, filepath.Join(examples, "container", "compose.yaml"))),
		"moonseal/config/ca.pem":          []byte(read(t, filepath.Join(m.s.dir, "ca.pem"))),
		"moonseal/config/moonseal.yaml":   []byte(m.toLab("")),
		"moonseal/config/scripts/dfw.lua": []byte(read(t, filepath.Join(examples, "dfw.lua"))), "moonseal/config/scripts/stopped.lua": []byte(renewal("stopped")),
	}
	for _, name := range []string{"CUCM_USERNAME", "CUCM_PASSWORD", "CF_API_TOKEN"} {
		files["moonseal/secrets/"+name] = []byte(m.s.env[name])
	}
	m.bring(files)
	m.boot()
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := m.try("podman ps --all; podman logs moonseal_moonseal_1; tail -n 20 /tmp/*.out; journalctl --no-pager -n 30")
			t.Log(said)
		}
	})
	m.do("podman load --quiet --input image.tar")

	// As the compose file says it is started, but for the name of the program.
	const compose = "cd ~/moonseal/moonseal && podman-compose --podman-run-args=--read-only-tmpfs=false "
	const in = "podman exec moonseal_moonseal_1 moonseal "
	m.do(compose + "up -d --no-build")
	m.until(in + "status >/dev/null 2>&1")
	m.says(0, in+"status", "dfw", "stopped")
	m.says(0, "podman healthcheck run moonseal_moonseal_1")
	said := m.do("pid=$(podman inspect --format '{{.State.Pid}}' moonseal_moonseal_1); cat /proc/$pid/status")
	for _, words := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(said, words) {
			t.Errorf("the process has no %q:\n%s", words, said)
		}
	}
	m.do(in + "trust --yes cucm01-pub.automate.builders && " + in + "trust --yes stopped.automate.builders")
	m.says(0, in+"doctor", "ok   daemon", "ok   secret CUCM_PASSWORD", "ok   node cucm01-pub.automate.builders SSH")
	m.says(0, in+"run dfw --force", "completed")
	m.says(0, in+"backup /var/lib/moonseal/copy.db")

	hold := m.s.lab.add(fault{Call: "acme.finalize", Kind: holdBefore})
	m.do("setsid -f " + in + "run stopped --force >/tmp/stopped.out 2>&1")
	m.s.lab.held(nil, hold)
	m.do("setsid -f podman stop --time 90 moonseal_moonseal_1 >/tmp/stop.out 2>&1")
	m.until("podman logs moonseal_moonseal_1 2>&1 | grep -q msg=stopping")
	m.s.lab.release(hold)
	m.until(`[ "$(podman inspect --format "{{.State.Status}}" moonseal_moonseal_1)" = exited ]`)
	if code := m.do("podman inspect --format '{{.State.ExitCode}}' moonseal_moonseal_1"); code != "0" || len(m.issued("stopped")) != 1 {
		t.Errorf("it ended with %s, and %d certificates issued", code, len(m.issued("stopped")))
	}
	m.s.lab.clear()
	// What is replaced by a newer image keeps its state: it is on the volume.
	m.do("podman rm moonseal_moonseal_1 && " + compose + "up -d --no-build")
	m.until(in + "runs --playbook stopped 2>&1 | grep -q done")
	m.once("stopped")
	m.s.printed.WriteString(m.do("podman logs moonseal_moonseal_1 2>&1"))
}
