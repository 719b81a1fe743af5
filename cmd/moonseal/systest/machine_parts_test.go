package systest

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// cgroup is where the kernel keeps the unit's cgroup.
const cgroup = "/sys/fs/cgroup/system.slice/moonseal.service"

// renews lets the playbook that init wrote renew, with an approval.
func (m *installation) renews() {
	m.says(exitWaiting, "sudo -u alice moonseal run first", "approv")
	run := m.latest("first")
	m.says(0, "sudo -u alice moonseal status", run+": waits for approval", "moonseal approve "+run)
	hold := m.s.lab.add(fault{Call: "acme.finalize", Kind: holdBefore})
	m.do("sudo -u alice moonseal approve " + run + " --ticket CHG0042")
	m.s.lab.held(nil, hold)
	child := m.child()
	said := m.do("cat /proc/" + child + "/status /proc/" + child + "/oom_score_adj; cd " + cgroup + "/run-*; echo $PWD; grep . cgroup.procs memory.max memory.swap.max pids.max memory.oom.group")
	for _, words := range []string{
		"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "\n500\n",
		"cgroup.procs:" + child + "\n", "memory.max:268435456\n", "memory.swap.max:0\n", "pids.max:256\n", "memory.oom.group:1",
	} {
		if !strings.Contains(said, words) {
			m.t.Errorf("the run's process has no %q:\n%s", words, said)
		}
	}
	m.s.lab.clear()
	m.ends(run, "cucm01-pub")
	m.says(0, "sudo -u alice moonseal logs "+run, "approved by alice", "ticket=CHG0042")
	m.groupsAreGone()
	m.says(0, "sudo -u alice moonseal runs", run)

	m.says(exitWaiting, "sudo -u alice moonseal run first --force", "approv")
	run = m.latest("first")
	m.do("sudo -u alice sudo moonseal deny " + run + " --reason early")
	m.says(0, "sudo -u alice moonseal logs -f "+run, "denied by alice (as root)")
}

// child returns the process of the one run that is under way.
func (m *installation) child() string {
	m.t.Helper()
	return m.do("cat " + cgroup + "/run-*/cgroup.procs")
}

// groupsAreGone checks that no cgroup is left where no run is under way.
func (m *installation) groupsAreGone() {
	m.t.Helper()
	m.until("! ls -d " + cgroup + "/run-* >/dev/null 2>&1")
}

func (m *installation) refuses() {
	m.says(exitFailed, "sudo -u nobody moonseal status", "permission denied on the daemon's socket")
	m.says(exitUsage, "sudo -u alice moonseal trust drained.automate.builders", "sudo -u moonseal")
	m.says(2, "sudo -u alice ls /var/lib/moonseal", "Permission denied")
	m.says(0, "ls -l /run/moonseal/", "srw-rw---- 1 moonseal moonseal")
}

// confines lets the worker's own tests attack from within a unit like ours.
func (m *installation) confines() {
	m.do(`cd /etc/systemd/system
install -m 0755 ~/moonseal/bin/attacks /usr/local/bin/attacks
sed 's|^ExecStart=.*|ExecStart=/usr/local/bin/attacks -test.v -test.run Reach\|Started\|Hurts\|Stays\|Inherited|; s|^Type=.*|Type=oneshot|; s|^Restart=.*|Restart=no|; /^ExecReload/d; /^WatchdogSec/d; s|^.*Directory=moonseal|&-attacks|' \
	moonseal.service >attacks.service
systemctl daemon-reload`)
	_, code := m.try("systemctl start attacks")
	said := m.do("journalctl --no-pager -o cat -u attacks")
	if code != 0 {
		m.t.Errorf("they fail:\n%s", said)
	}
	for _, test := range []string{"TestFilesAreOutOfReach", "TestNoProgramIsStarted", "TestMemoryBombHurtsNobodyElse"} {
		if !strings.Contains(said, "--- PASS: "+test) {
			m.t.Errorf("%s did not pass:\n%s", test, said)
		}
	}
	// Root may divide cgroups without a unit, which these tests want.
	m.says(0, "cd /tmp && attacks -test.v -test.run 'Cgroup'", "--- PASS: TestEachChildHasACgroup", "--- PASS: TestOnlyADelegatedCgroupIsDivided")
}

// bomber takes memory until there is no more.
const bomber = `return playbook { name = "bomb", run = function(ctx)
  ctx:step("growing", function()
    local all = {}
    for i = 1, 1e9 do all[i] = { i } end
  end)
end }
`

// bomb lets a run grow, while another one is under way. Of its cgroup's limit it
// dies first where that is less than the process's own, as root sets it here.
func (m *installation) bomb() {
	m.playbook("drained")
	m.write("/etc/moonseal/scripts/bomb.lua", bomber)
	m.do("moonseal reload")
	before := m.property("MainPID")
	run, _ := m.begin("drained", fault{Call: "acme.finalize", Kind: holdBefore})
	old := m.do("ls -d " + cgroup + "/run-*")
	m.do(`setsid -f bash -c 'until [ "$(ls -d ` + cgroup + `/run-* | wc -l)" = 2 ]; do :; done; for g in ` + cgroup + `/run-*; do [ $g = ` + old + ` ] || echo 60M >$g/memory.max; done' >/tmp/limit.out 2>&1`)
	m.says(exitParked, "sudo -u alice moonseal run bomb", "growing", "3 times")
	id := m.latest("bomb")
	m.says(0, "moonseal logs "+id, "it needs more memory than limits.memory allows")
	m.says(0, "moonseal status", id, "parked")
	m.says(0, "moonseal runs", id, "parked")
	m.says(0, "journalctl --no-pager -u moonseal", "it needs more memory than limits.memory allows")
	m.do("moonseal cancel " + id)
	if now := m.property("MainPID"); now != before {
		m.t.Errorf("the daemon was %s, and is %s", before, now)
	}
	if groups := m.do("ls -d " + cgroup + "/run-*"); groups != old {
		m.t.Errorf("cgroups are left: %s", groups)
	}
	m.s.lab.clear()
	m.ends(run, "drained")
}

// crowded leaves the whole unit less memory than a run may have: what the kernel
// ends is a run, and neither the daemon nor, as systemd would have it elsewhere,
// the unit.
func (m *installation) crowded() {
	before := m.property("MainPID")
	m.do("systemctl set-property --runtime moonseal MemoryMax=160M MemorySwapMax=0")
	m.says(exitParked, "sudo -u alice moonseal run bomb", "it needs more memory than limits.memory allows", "3 times")
	m.do("systemctl set-property --runtime moonseal MemoryMax=3G && moonseal cancel " + m.latest("bomb") + " && rm /etc/moonseal/scripts/bomb.lua")
	if now := m.property("MainPID"); now != before || m.property("NRestarts") != "0" {
		m.t.Errorf("the daemon was %s, and is %s", before, now)
	}
	m.says(0, "systemctl is-active moonseal")
	m.groupsAreGone()
}

func (m *installation) reloads() {
	m.write("/etc/moonseal/scripts/broken.lua", "half a script")
	m.says(1, "systemctl reload moonseal")
	m.says(0, "systemctl is-active moonseal")
	m.says(0, "moonseal status", "broken.lua:1")
	m.says(0, "systemctl status moonseal", "1 broken script")
	m.do("rm /etc/moonseal/scripts/broken.lua && systemctl reload moonseal")
	if status := m.property("StatusText"); !strings.HasSuffix(strings.TrimSuffix(status, "s"), " playbook") {
		m.t.Errorf("its status is %q", status)
	}
	m.configure("stop_timeout: 60s\nblackouts: [whenever]\n")
	m.says(1, "systemctl reload moonseal")
	m.do("sed -i 's/cpu: none/cpu: 50%/' /etc/moonseal/init.yaml") // of the runs that begin from now on
	m.configure("stop_timeout: 60s\n")
	m.do("systemctl reload moonseal")
}

// drains stops the service while a step runs, which ends in its time.
func (m *installation) drains() {
	m.playbook("stopped")
	run, hold := m.begin("stopped", fault{Call: "acme.finalize", Kind: holdBefore})
	if limit := m.do("cat " + cgroup + "/run-*/cpu.max"); limit != "50000 100000" {
		m.t.Errorf("the run has %s of a processor", limit)
	}
	m.do("systemctl stop --no-block moonseal")
	m.until(`systemctl status moonseal | grep -q "Status: .waiting for running steps"`)
	m.s.lab.release(hold)
	m.until(`[ "$(systemctl is-active moonseal)" = inactive ]`)
	if result := m.property("Result"); result != "success" {
		m.t.Errorf("it stopped with %s", result)
	}
	m.s.lab.clear()
	if len(m.issued("stopped")) != 1 {
		m.t.Error("no certificate is issued when it has stopped: the step was to end")
	}
	m.says(0, "journalctl --no-pager -u moonseal", `msg="run interrupted; it continues at the next start" run=`+run)
	m.do("systemctl start moonseal")
	m.ends(run, "stopped")
}

// stops stops the service while a step runs that does not end in its time.
func (m *installation) stops() {
	m.configure("stop_timeout: 2s\n")
	m.do("systemctl reload moonseal")
	m.playbook("hung")
	run, hold := m.begin("hung", fault{Call: "cucm.csr", Kind: holdAfter})
	began := time.Now()
	m.do("systemctl stop moonseal")
	if took := time.Since(began); took > 30*time.Second {
		m.t.Errorf("the stop took %s", took)
	}
	if result := m.property("Result"); result != "success" {
		m.t.Errorf("it stopped with %s", result)
	}
	m.s.lab.dropped(hold)
	m.s.lab.clear()
	hold = m.s.lab.add(fault{Call: "acme.finalize", Kind: holdBefore})
	m.do("systemctl start moonseal")
	m.s.lab.held(nil, hold) // and so it stays, for the watchdog
	if now := m.latest("hung"); now != run {
		m.t.Errorf("another run has begun: %s", now)
	}
}

// hangs stops the daemon's process, as nothing would that is well.
func (m *installation) hangs() {
	m.write("/etc/systemd/system/moonseal.service.d/watchdog.conf", "[Service]\nWatchdogSec=4s\n")
	m.do("systemctl daemon-reload && systemctl restart moonseal")
	run := m.latest("hung")
	before := m.property("MainPID")
	m.do("sleep 12")
	if now := m.property("MainPID"); now != before {
		m.t.Fatalf("the daemon was %s, and is %s", before, now)
	}
	m.do("kill -STOP " + before)
	m.until(`[ "$(systemctl show --value -p NRestarts moonseal)" = 1 ]`)
	m.says(0, "journalctl --no-pager -u moonseal", "Watchdog timeout", "Failed with result 'watchdog'")
	m.s.lab.clear()
	m.until("moonseal status >/dev/null 2>&1")
	m.ends(run, "hung")
	m.says(0, "systemctl is-active moonseal")
	m.do("rm /etc/systemd/system/moonseal.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart moonseal")
	m.groupsAreGone()
}

// timed lets a timer's service do what the daemon does, where it is stopped.
func (m *installation) timed() {
	m.write("/etc/moonseal/scripts/dfw.lua", strings.Replace(renewal("timed"), `name = "timed"`, `name = "dfw"`, 1))
	m.do("systemctl stop moonseal && install -m 0644 examples/timer/* /etc/systemd/system/ && systemctl daemon-reload")
	m.says(0, "systemd-analyze verify --man=no moonseal-run.timer moonseal-run.service")
	m.do("systemctl start moonseal-run")
	m.once("timed")
	m.says(0, "journalctl --no-pager -u moonseal-run", "completed")
	m.do("systemctl enable --now moonseal-run.timer")
	m.says(0, "systemctl list-timers", "moonseal-run.service")
	m.do("systemctl disable --now moonseal-run.timer && systemctl start moonseal")
	m.says(0, "moonseal runs --playbook dfw", "done")
}

// goesDark cuts the power between an upload and its answer.
func (m *installation) goesDark() {
	m.playbook("dark")
	m.do("sync") // the script; what moonseal writes is its own to keep
	run, hold := m.begin("dark", fault{Call: "cucm.upload-identity", Kind: holdAfter})
	m.s.until("the upload has happened", func() bool {
		for _, u := range m.s.lab.ledger().Uploads {
			if u.Node == "dark.automate.builders" && u.Kind == "identity" {
				return true
			}
		}
		return false
	})
	m.powerCut()
	m.s.lab.dropped(hold)
	m.s.lab.clear()
	m.boot()
	m.until("moonseal status >/dev/null 2>&1")
	m.ends(run, "dark")
	m.says(0, "sudo moonseal doctor", "ok   daemon")
}

// logs looks at what journald has.
func (m *installation) logs() {
	levels := map[int]bool{}
	for line := range strings.Lines(m.do("journalctl --no-pager -o json -u moonseal _COMM=moonseal")) {
		var e struct {
			Priority string `json:"PRIORITY"`
			Message  string `json:"MESSAGE"`
		}
		m.check(json.Unmarshal([]byte(line), &e))
		level, err := strconv.Atoi(e.Priority)
		m.check(err)
		levels[level] = true
		if strings.HasPrefix(e.Message, "<") || strings.Contains(e.Message, "time=") || strings.Contains(e.Message, "level=") {
			m.t.Errorf("a line with what journald has itself: %s", e.Message)
		}
	}
	for _, level := range []int{4, 6} {
		if !levels[level] {
			m.t.Errorf("no line has the priority %d: %v", level, levels)
		}
	}
	m.says(0, "journalctl --no-pager -u moonseal -p warning", "broken.lua")
	m.s.printed.WriteString(m.do("journalctl --no-pager -o cat -u moonseal"))
}
