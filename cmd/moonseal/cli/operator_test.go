package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
)

// seededSite is a site whose journal has a run in each state that a decision can meet.
type seededSite struct {
	*site

	runs map[string]string // ids, by playbook
}

// newSeededSite writes the playbooks, and a run of each as the journal would have it.
func newSeededSite(t *testing.T) *seededSite {
	t.Helper()
	o := &seededSite{newSite(t, ""), map[string]string{}}
	j, err := journal.Open(t.Context(), filepath.Join(o.dir, "state"), journal.Options{})
	o.check(err)
	defer func() { o.check(j.Close()) }()
	for _, d := range seeds() {
		o.file(j, d)
	}
	return o
}

// seed is a playbook with its run, of which the journal has the records.
type seed struct {
	name, body string // of the run function
	locks      []string
	records    func(journal.Stamp) []journal.Record
}

// far is later than any test.
func far() time.Time { return time.Now().AddDate(1, 0, 0).UTC() }

func seeds() []seed {
	asked := func(s journal.Stamp) []journal.Record {
		return []journal.Record{
			journal.StepStarted{Stamp: s, Kind: "approve", Name: "approve", Key: "go", Attempt: 1}, journal.RunWaiting{Stamp: s, For: "approval: go"},
		}
	}
	begun := func(s journal.Stamp) journal.Record {
		return journal.StepStarted{Stamp: s, Kind: "step", Name: "changing", Attempt: 1}
	}
	mark := func(s journal.Stamp) journal.EffectMarked {
		return journal.EffectMarked{Stamp: s, Fn: "cucm.Node:upload", Args: json.RawMessage("{}"), Disruptive: true}
	}
	parked := func(s journal.Stamp) []journal.Record {
		return []journal.Record{begun(s), mark(s), journal.RunParked{Stamp: s, Reason: "cannot tell"}}
	}
	ended := func(s journal.Stamp) []journal.Record {
		return []journal.Record{journal.RunEnding{Stamp: s, Outcome: journal.Done}, journal.RunEnded{Stamp: s}}
	}
	left := func(s journal.Stamp) []journal.Record {
		m := mark(s)
		m.Undo = &journal.UndoSpec{Fn: "dns.Zone:present", Args: json.RawMessage("{}"), Holds: []string{"_acme-challenge.a.example"}}
		return append([]journal.Record{begun(s), m}, ended(s)...)
	}
	holds := func(s journal.Stamp) []journal.Record {
		return []journal.Record{begun(s), mark(s), journal.RunWaiting{Stamp: s, For: "retry of changing", Until: far()}}
	}
	waits := func(s journal.Stamp) []journal.Record {
		return []journal.Record{begun(s), journal.RunWaiting{Stamp: s, For: "retry of changing", Until: far()}}
	}
	const approves, sleeps = `ctx:approve "go"`, `ctx:step("changing", function() return 1 end)`
	return []seed{
		{"gone", "", nil, ended},
		{"gonewaits", "", nil, waits},
		{"asks", approves, nil, asked},
		{"asks2", approves, nil, asked},
		{"parked", sleeps, nil, parked},
		{"ended", sleeps, nil, ended},
		{"left", sleeps, nil, left},
		{"holds", sleeps, []string{"cluster:dfw"}, holds},
		{"waits", sleeps, nil, waits},
		{"again", sleeps, nil, waits},
	}
}

func (o *seededSite) file(j *journal.Journal, d seed) {
	o.t.Helper()
	text := `return playbook { name = "` + d.name + `", run = function(ctx) ` + d.body + ` end }`
	if !strings.HasPrefix(d.name, "gone") {
		o.check(os.WriteFile(filepath.Join(o.dir, "scripts", d.name+".lua"), []byte(text), 0o600))
	}
	hash := strings.Repeat(d.name, 8)
	ctx := o.t.Context()
	o.check(j.SaveBundle(ctx, hash, []journal.Source{{Path: d.name + ".lua", Body: []byte(text)}}))
	s := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now().UTC()}
	o.check(j.Write(ctx, append([]journal.Record{journal.RunCreated{Stamp: s, Playbook: d.name, Bundle: hash, Locks: d.locks}}, d.records(s)...)...))
	o.runs[d.name] = s.Run
}

// types runs a command line, in which an argument such as =asks stands for that
// playbook's run, and returns what it says with names in place of runs.
func (o *seededSite) types(line string) (code int, said string) {
	o.t.Helper()
	args := strings.Fields(line)
	for i, word := range args {
		if name, is := strings.CutPrefix(word, "="); is {
			args[i] = o.runs[name]
		}
	}
	p := o.start("", append(args, "--config", o.config())...)
	code = p.wait()
	said = p.out.String()
	for name, id := range o.runs {
		said = strings.ReplaceAll(said, id, "="+name)
	}
	return code, said
}

// decisions are what the journal has of a run's decisions: who decides is whoever runs
// the test.
func (o *seededSite) decisions(playbook string) []string {
	o.t.Helper()
	j, err := journal.OpenReadOnly(o.t.Context(), filepath.Join(o.dir, "state"))
	o.check(err)
	defer func() { o.check(j.Close()) }()
	all, err := j.Decisions(o.t.Context(), o.runs[playbook])
	o.check(err)
	who := (&app{getenv: os.Getenv}).who()
	var out []string
	for _, d := range all {
		if d.By != who || d.Playbook != playbook {
			o.t.Errorf("%+v: by another, or of another playbook", d)
		}
		out = append(out, strings.Join(strings.Fields(strings.Join([]string{d.What, d.Verdict, d.Ticket, d.Reason}, " ")), " "))
	}
	return out
}

// TestOperators is the contract of what a person can decide: with a daemon and without
// one the same commands say the same, refuse the same, and leave the same decisions.
func TestOperators(t *testing.T) {
	const continues = "CONTINUES"
	steps := []struct {
		line string
		code int
		says string // a regular expression over the whole of it, lines joined by ;
	}{
		{"approve =waits", exitFailed, "moonseal: run =waits: it is not waiting for approval;hint: moonseal status shows what it waits for"},
		{"approve =parked", exitFailed, "moonseal: run =parked: it is not waiting for approval;hint: .*"},
		{"approve =ended", exitFailed, "moonseal: run =ended: it has ended already: done;hint: moonseal run ended starts a new one"},
		{"deny =ended", exitFailed, "moonseal: run =ended: it has ended already: done;hint: .*"},
		{"approve 0000000000", exitUsage, `moonseal: there is no run "0000000000";hint: .*`},
		{"resume =waits --as look", exitFailed, "moonseal: run =waits: it is not parked: it is waiting;hint: moonseal run waits makes a waiting run continue now"},
		{"resume =parked --as perhaps", exitUsage, "moonseal: resume: the decision must say whether cucm.Node:upload has happened;hint: look at the appliance.*"},
		{"resume =ended --as look", exitFailed, "moonseal: run =ended: it has ended already: done;hint: .*"},
		{"cancel =ended", exitFailed, "moonseal: run =ended: it has ended already: done;hint: .*"},
		{"unlock =waits", exitFailed, "moonseal: run =waits: it holds no lock;hint: .*"},
		{"unlock =ended", exitFailed, "moonseal: run =ended: it has ended already: done;hint: .*"},
		{"cleanup retry =waits", exitFailed, "moonseal: run =waits: it has not ended: it cleans up by itself;hint: .*"},
		{"cleanup forget =waits", exitFailed, "moonseal: run =waits: it has not ended: it cleans up by itself;hint: .*"},
		{"cleanup forget =ended", exitDone, "nothing of run =ended is left to clean up"},
		{"cleanup retry =ended", exitDone, "nothing of run =ended is left to clean up"},
		{"pause nosuch", exitUsage, `moonseal: there is no playbook "nosuch";hint: there are .*`},
		{"pause ask", exitUsage, `moonseal: there is no playbook "ask";hint: did you mean asks\?`},
		{"pause waits", exitDone, "waits: scheduled runs are paused until moonseal unpause waits; unfinished runs continue"},
		{"pause", exitDone, "all: scheduled runs are paused until moonseal unpause; unfinished runs continue"},
		{"unpause", exitDone, "all: scheduled runs are resumed;except waits, which is paused by name: moonseal unpause waits"},
		{"unpause waits", exitDone, "waits: scheduled runs are resumed"},
		{"forget nosuch", exitUsage, `moonseal: no playbook "nosuch" has ever run;hint: .*`},
		{"forget ended", exitFailed, "moonseal: ended: its script exists: ended.lua;hint: .*"},
		{"forget gonewaits", exitFailed, "moonseal: gonewaits: its run =gonewaits has not ended;hint: moonseal cancel =gonewaits ends it"},
		{"forget gone --ticket CHG3", exitDone, "gone is forgotten"},
		{"approve =asks --ticket CHG1 --reason tested", exitDone, "run =asks of asks is approved;" + continues},
		{"deny =asks2 --reason no", exitDone, "run =asks2 of asks2 is denied: it fails, and cleans up;" + continues},
		{"resume =parked --as again", exitDone, "run =parked of parked is resumed;" + continues},
		{"unlock =holds --ticket CHG2", exitDone, "run =holds of holds: released cluster:dfw"},
		{"unlock =holds", exitFailed, "moonseal: run =holds: it holds no lock;hint: .*"},
		{"cancel =holds --reason enough", exitDone, "run =holds of holds is cancelled;left: cucm.Node:upload may have happened"},
		{"cancel =waits", exitDone, "run =waits of waits is cancelled"},
		{"cancel =again --retry", exitDone, `run =again of again is cancelled;again: run \w+;  changing +done .*;  completed +done`},
		{"run ended", exitDone, `ended: run \w+;  changing +done .*;  completed +done`},
		{"run again", exitDone, `again: run \w+;  changing +done .*;  completed +done`},
		{"run nosuch", exitUsage, `moonseal: there is no playbook "nosuch";hint: .*`},
		{"runs --playbook waits", exitDone, `RUN +PLAYBOOK .*;=waits +waits +cancelled .*`},
		{"logs 0000000000", exitUsage, `moonseal: there is no run "0000000000";hint: .*`},
		{"secret test NOSUCH", exitFailed, `NOSUCH +missing +not found in systemd credentials, environment or config;hint: .*`},
		{"check", exitDone, `ok .*;8 playbooks ok, 0 scripts broken`},
		{"cleanup forget =left", exitDone, "run =left: forgot _acme-challenge.a.example"},
		{"cleanup forget =left", exitDone, "nothing of run =left is left to clean up"},
		{"backup BACKUP", exitDone, "the journal is copied to .*"},
	}
	decided := map[string][]string{
		"asks": {"approve CHG1 tested"}, "asks2": {"deny no"}, "parked": {"resume again"}, "holds": {"unlock CHG2", "cancel enough"},
		"waits": {"cancel"}, "again": {"cancel"}, "left": {"forget"}, "ended": nil,
	}
	for name, with := range map[string]struct {
		daemon    bool
		continues string
	}{
		"with a daemon":    {true, "it continues now"},
		"without a daemon": {false, `moonseal run \w+ continues it: no daemon is running`},
	} {
		t.Run(name, func(t *testing.T) {
			o := newSeededSite(t)
			if with.daemon {
				o.serve()
			}
			for _, s := range steps {
				line := strings.ReplaceAll(s.line, "BACKUP", filepath.Join(o.dir, "copy.db"))
				code, said := o.types(line)
				said = strings.ReplaceAll(strings.TrimSpace(said), "\n", ";")
				want := "^" + strings.ReplaceAll(s.says, continues, with.continues) + "$"
				if code != s.code || !regexp.MustCompile(want).MatchString(said) {
					t.Errorf("moonseal %s: exit code %d, said\n%s\nwant %d and\n%s", s.line, code, said, s.code, want)
				}
			}
			for playbook, want := range decided {
				if got := o.decisions(playbook); !slices.Equal(got, want) {
					t.Errorf("decisions about %s: %q, want %q", playbook, got, want)
				}
			}
		})
	}
}

// TestNeedsDaemon is the table in examples/operate/README.md of what only a daemon does, and of what is
// refused while one runs.
func TestNeedsDaemon(t *testing.T) {
	o := newSeededSite(t)
	const none = `^moonseal: .*moonseal.sock: no daemon is running\nhint: systemctl start moonseal, or moonseal serve\n$`
	for _, line := range []string{"status", "status --json", "reload"} {
		if code, said := o.types(line); code != exitFailed || !regexp.MustCompile(none).MatchString(said) {
			t.Errorf("moonseal %s: exit code %d, said %s", line, code, said)
		}
	}
	o.serve()
	const busy = `^moonseal: --now and --replay are for a run in the foreground, and the daemon runs\nhint: .*\n$`
	for _, line := range []string{"run waits --now", "run waits --replay"} {
		if code, said := o.types(line); code != exitUsage || !regexp.MustCompile(busy).MatchString(said) {
			t.Errorf("moonseal %s: exit code %d, said %s", line, code, said)
		}
	}
	if code, said := o.types("serve"); code != exitFailed || !strings.Contains(said, "the state directory is in use by process ") {
		t.Errorf("moonseal serve: exit code %d, said %s", code, said)
	}
	for _, line := range []string{"status", "reload"} {
		if code, said := o.types(line); code != exitDone {
			t.Errorf("moonseal %s: exit code %d, said %s", line, code, said)
		}
	}
}
