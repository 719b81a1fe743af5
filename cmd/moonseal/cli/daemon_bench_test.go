package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"moonseal/modules"
	"moonseal/runtime/account"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
	"moonseal/scripts"
)

// measured is a moonseal serve that is measured, with nothing else in its folder.
type measured struct {
	b     *testing.B
	cmd   *exec.Cmd
	api   *api.Client
	state string
	out   bytes.Buffer
	ready time.Duration // from its start until it has loaded its playbooks
	stop  func()        // once
}

// serveFolder starts the daemon with n playbooks, p0 and so on, of that text, and
// waits until it has loaded them and rests. It learns that as the service manager
// does, since a question about 10,000 playbooks would itself be work.
func serveFolder(b *testing.B, n int, text, settings string) *measured {
	b.Helper()
	return serveFolderWith(b, n, text, settings, func(string) {})
}

// serveFolderWith is serveFolder, with a state folder that fill fills.
func serveFolderWith(b *testing.B, n int, text, settings string, fill func(state string)) *measured {
	b.Helper()
	dir := b.TempDir()
	d := &measured{b: b, state: filepath.Join(dir, "state")}
	d.api = api.Dial(filepath.Join(d.state, "moonseal.sock"))
	d.check(os.Mkdir(filepath.Join(dir, "scripts"), 0o755))
	config := filepath.Join(dir, "moonseal.yaml")
	d.check(os.WriteFile(config, []byte("scripts: scripts\nstate: state\nlog: { level: warn }\n"+settings), 0o600))
	for i := range n {
		d.check(os.WriteFile(filepath.Join(dir, "scripts", fmt.Sprintf("p%d.lua", i)), []byte(text), 0o600))
	}
	fill(d.state)
	path := filepath.Join(dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	d.check(err)
	defer func() { _ = notify.Close() }()
	d.check(notify.SetReadDeadline(time.Now().Add(2 * patience)))
	exe, err := exec.LookPath("moonseal")
	d.check(err)
	d.cmd = exec.Command(exe, "serve", "--config", config)
	d.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + path, "GODEBUG=" + os.Getenv("GODEBUG")}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	began := time.Now()
	d.check(d.cmd.Start())
	d.stop = sync.OnceFunc(d.end)
	b.Cleanup(d.stop)
	buf := make([]byte, 4096)
	for said := ""; !strings.Contains(said, fmt.Sprintf("STATUS=%d playbook", n)); {
		got, err := notify.Read(buf)
		d.check(err)
		said = string(buf[:got])
	}
	d.ready = time.Since(began)
	d.rest()
	return d
}

func (d *measured) check(err error) {
	d.b.Helper()
	if err != nil {
		d.b.Fatal(err)
	}
}

func (d *measured) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := d.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		d.b.Error(err)
	}
	if d.b.Failed() {
		d.b.Logf("%s", d.out.Bytes())
	}
}

// rest waits until the daemon has done next to nothing for two seconds.
func (d *measured) rest() {
	d.b.Helper()
	late := time.Now().Add(2 * patience)
	for quiet := 0; quiet < 4; quiet++ {
		if d.worked(500*time.Millisecond) > 20*time.Millisecond {
			quiet = -1
		}
		if time.Now().After(late) {
			d.b.Fatal("the daemon does not rest")
		}
	}
}

// worked returns the processor time that the daemon takes in a span.
func (d *measured) worked(span time.Duration) time.Duration {
	d.b.Helper()
	before := d.processor()
	<-time.After(span)
	return d.processor() - before
}

// processor returns the processor time that the daemon has taken, without its
// children: fields 14 and 15 of /proc/PID/stat, in hundredths of a second.
func (d *measured) processor() time.Duration {
	d.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	d.check(err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		d.check(err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident returns the daemon's memory in MB: of all, and what is not of files.
func (d *measured) resident() (rss, anonymous float64) {
	d.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	d.check(err)
	of := func(name string) float64 {
		_, after, found := strings.Cut(string(text), name+":")
		if !found {
			d.b.Fatalf("no %s in %s", name, text)
		}
		n, err := strconv.Atoi(strings.Fields(after)[0])
		d.check(err)
		return float64(n) * 1024 / 1e6
	}
	return of("VmRSS"), of("RssAnon")
}

// ended waits until the run has ended or stopped, and returns it.
func (d *measured) ended(id string) (*journal.Run, error) {
	return d.api.Follow(d.b.Context(), id, func(journal.Record) {})
}

// daily is a small playbook whose next run is half a day away.
func daily() string {
	return fmt.Sprintf(`-- A playbook as small as they get.
local log = require "log"
return playbook {
  schedule = "0 %d * * *",
  run = function(ctx)
    ctx:step("look", function() log.info("nothing is to be done") end)
  end,
}
`, time.Now().Add(12*time.Hour).Hour())
}

// BenchmarkIdle10000: what a daemon with 10,000 playbooks costs that nobody touches.
// Goals: at most 100 MB resident, and at most 0.5 % of one core, over one rescan of
// the folder. The floor is a daemon without playbooks.
func BenchmarkIdle10000(b *testing.B) {
	const rescan = 30 * time.Second
	empty, _ := serveFolder(b, 0, "", "").resident()
	d := serveFolder(b, 10000, daily(), "")
	start, _ := d.resident()
	var worked, span time.Duration
	for b.Loop() {
		worked += d.worked(rescan)
		span += rescan
	}
	rss, anonymous := d.resident()
	b.ReportMetric(rss, "MB-resident")
	b.ReportMetric(start, "MB-resident-at-start")
	b.ReportMetric(anonymous, "MB-anonymous")
	b.ReportMetric(empty, "MB-floor")
	b.ReportMetric(100*worked.Seconds()/span.Seconds(), "%-of-core")
}

// BenchmarkWaiting1000: what 1,000 runs that wait add to the daemon's memory.
// Goal: at most 10 MB. The floor is the same daemon before them.
func BenchmarkWaiting1000(b *testing.B) {
	const n = 1000
	for b.Loop() {
		d := serveFolder(b, n, `return playbook { run = function(ctx) ctx:sleep("1d") end }`, "")
		before, beforeAnonymous := d.resident()
		d.begin(n)
		d.until(journal.Waiting, n)
		d.rest()
		after, afterAnonymous := d.resident()
		b.ReportMetric(after-before, "MB-more")
		b.ReportMetric(afterAnonymous-beforeAnonymous, "MB-more-anonymous")
		b.ReportMetric(before, "MB-floor")
	}
}

// begin begins a run of each of n playbooks.
func (d *measured) begin(n int) {
	d.b.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			_, err := d.api.Run(d.b.Context(), api.RunRequest{Playbook: fmt.Sprintf("p%d", i)})
			return err
		})
	}
	d.check(g.Wait())
}

// until waits until n runs have the status.
func (d *measured) until(status journal.Status, n int) {
	d.b.Helper()
	j, err := journal.OpenReadOnly(d.b.Context(), d.state)
	d.check(err)
	defer func() { d.check(j.Close()) }()
	again := time.NewTicker(25 * time.Millisecond) // to look is work too
	defer again.Stop()
	for late := time.Now().Add(2 * patience); ; <-again.C {
		runs, err := j.Runs(d.b.Context(), journal.Filter{Status: status})
		d.check(err)
		if len(runs) == n {
			return
		}
		if time.Now().After(late) {
			d.b.Fatalf("%d runs are %s, want %d", len(runs), status, n)
		}
	}
}

// BenchmarkDecisionToFirstStep: from the daemon's decision to run a playbook, as
// the journal has the run's creation, to the start of its first step. The floor,
// `moonseal version`, is a process of the same program.
func BenchmarkDecisionToFirstStep(b *testing.B) {
	d := serveFolder(b, 1, startScript, "")
	j, err := journal.OpenReadOnly(b.Context(), d.state)
	d.check(err)
	defer func() { d.check(j.Close()) }()
	var took, floor []time.Duration
	for b.Loop() {
		for range 20 {
			floor = append(floor, journaltest.Time(b, exec.CommandContext(b.Context(), d.cmd.Path, "version").Run))
			r, err := d.api.Run(b.Context(), api.RunRequest{Playbook: "p0"})
			d.check(err)
			run, err := d.ended(r.ID)
			if err != nil || run.Status != journal.Done {
				b.Fatal(run, err)
			}
			h, err := j.History(b.Context(), r.ID)
			d.check(err)
			took = append(took, h.Steps[0].Started.Sub(h.Run.Created))
		}
	}
	report(b, "first-step", took, floor)
}

// atOnce is how many runs are under way at once.
const atOnce = 64

// BenchmarkRunsAtOnce: 64 runs at once, each of so many steps without effects, from
// the first request to the last run's end, against 64 processes of the same program
// that do the same runs and each open the journal themselves, as children would do
// that had connections of their own, and write it in turns. Goal: at least 4 times the
// throughput. The peers are not confined, have no parent, and are in no queue. The floor
// beside it is a synced commit: the slower the disk, the more the peers lose.
func BenchmarkRunsAtOnce(b *testing.B) {
	for _, steps := range []int{24, 240} {
		b.Run(strconv.Itoa(steps), func(b *testing.B) {
			d := serveFolder(b, atOnce, stepsScript(steps), fmt.Sprintf("concurrency: %d\n", atOnce))
			var r journaltest.Ratio
			for done := atOnce; b.Loop(); done += atOnce {
				dir := b.TempDir()
				d.check(share(b, dir))
				r.Theirs(journaltest.Time(b, func() error { return loners(b, dir, steps) }))
				r.Ours(journaltest.Time(b, func() error {
					d.begin(atOnce)
					d.until(journal.Done, done)
					return nil
				}))
			}
			r.Faster(b, "")
			floor(b)
		})
	}
}

// floor reports what a bare synced commit takes on this disk, of which the peers
// wait for one after the other.
func floor(b *testing.B) {
	b.Helper()
	f, err := journaltest.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for range 200 {
		took = append(took, journaltest.Time(b, func() error { return f.Commit("{}") }))
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(journaltest.Median(took).Microseconds()), "µs/synced-commit")
}

func stepsScript(steps int) string {
	return fmt.Sprintf(`return playbook { run = function(ctx)
  for i = 1, %d do ctx:step("step", { key = tostring(i) }, function() return true end) end
end }`, steps)
}

// share makes a journal, with its log filled as the daemon's is, and a state folder
// beside it for each process that is to share it.
func share(b *testing.B, dir string) error {
	b.Helper()
	ctx := b.Context()
	j, err := journal.Open(ctx, filepath.Join(dir, "shared"), journal.Options{})
	if err != nil {
		return err
	}
	stamp := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now()}
	err = errors.Join(
		j.SaveBundle(ctx, "hash", nil),
		j.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: "p", Bundle: "hash"}),
		journaltest.Fill(func(text string) error { return j.Write(ctx, journal.Logged{Stamp: stamp, Message: text}) }),
		j.Close(),
	)
	for i := range atOnce {
		own := filepath.Join(dir, strconv.Itoa(i))
		err = errors.Join(err, os.Mkdir(own, 0o700), os.Symlink("../shared/moonseal.db", filepath.Join(own, "moonseal.db")))
	}
	return err
}

// loners is the peers, from their start to their end.
func loners(b *testing.B, dir string, steps int) error {
	b.Helper()
	exe, err := exec.LookPath("loner")
	if err != nil {
		return err
	}
	var g errgroup.Group
	for i := range atOnce {
		g.Go(func() error {
			cmd := exec.CommandContext(b.Context(), exe, filepath.Join(dir, strconv.Itoa(i)), strconv.Itoa(steps))
			cmd.Env = []string{"GOMAXPROCS=1"} // as the daemon's children have it
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	return g.Wait()
}

// loner is a process that does a run by itself, of as many steps as it is told, with
// a connection of its own to the journal in the folder that it is given.
func loner() {
	steps, err := strconv.Atoi(os.Args[2])
	if err == nil {
		err = alone(context.Background(), os.Args[1], stepsScript(steps))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
}

// orderly is a journal that several processes write, each with a connection of its
// own, one after the other: whoever has the lock of the shared folder writes. SQLite's
// busy handler would sleep instead, and only that would be measured.
type orderly struct {
	*journal.Journal
	turn *os.File
	lazy []journal.Record // for the next write: the journal's own timer knows no turn
}

func (j *orderly) WriteLazy(_ context.Context, recs ...journal.Record) error {
	j.lazy = append(j.lazy, recs...)
	return nil
}

func (j *orderly) Write(ctx context.Context, recs ...journal.Record) error {
	recs = append(j.lazy, recs...)
	j.lazy = nil
	return inTurn(j.turn, func() error { return j.Journal.Write(ctx, recs...) })
}

func inTurn(turn *os.File, do func() error) error {
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return errors.Join(do(), unix.Flock(int(turn.Fd()), unix.LOCK_UN))
}

func alone(ctx context.Context, state, script string) error {
	turn, err := os.Open(filepath.Join(state, "..", "shared"))
	if err != nil {
		return err
	}
	defer func() { _ = turn.Close() }()
	// With its own number for the random part of a run's id: nobody else sees to it
	// that no two have the same.
	n, err := strconv.ParseUint(filepath.Base(state), 10, 16)
	if err != nil {
		return err
	}
	j := &orderly{turn: turn}
	var id string
	var stamp journal.Stamp
	err = inTurn(turn, func() error {
		var err error
		j.Journal, err = journal.Open(ctx, state, journal.Options{Rand: bytes.NewReader(binary.BigEndian.AppendUint16(nil, uint16(n)))})
		if err != nil {
			return err
		}
		id = j.NewRunID()
		stamp = journal.Stamp{Run: id, Epoch: 1, At: time.Now()}
		return errors.Join(
			j.SaveBundle(ctx, "hash", []journal.Source{{Path: "p.lua", Body: []byte(script)}}),
			j.Journal.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: "p", Bundle: "hash"}),
		)
	})
	if err != nil {
		return err
	}
	h, err := j.History(ctx, id)
	if err != nil {
		return err
	}
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return err
	}
	network, err := grant.New(grant.Options{})
	if err != nil {
		return err
	}
	var r *run.Run
	env := bundle.Env{Embedded: scripts.Embedded(), Open: func(*sandbox.State) bundle.World { return bundle.World{Globals: r.Binding().Globals()} }}
	l := sandbox.New(ctx, sandbox.Options{})
	defer l.Close()
	r = run.New(l, run.Options{
		Registry: reg, History: h, Journal: j, Clock: clockwork.NewRealClock(), Network: network, Account: account.Open(state, ""),
		Secrets: secret.Map{}, Redactor: &secret.Redactor{}, Logger: slog.New(slog.DiscardHandler), Jitter: rand.Float64,
	})
	scripts, err := bundle.FromSources(ctx, map[string]string{"p.lua": script}, env)
	if err != nil {
		return err
	}
	table, err := scripts.Playbook(ctx, l, "p")
	if err != nil {
		return err
	}
	p, err := run.ReadPlaybook(l.L, "p", table)
	if err != nil {
		return err
	}
	out, err := r.Execute(ctx, p)
	if err == nil && out.Status != journal.Done {
		err = fmt.Errorf("the run ended as %+v", out)
	}
	return errors.Join(err, inTurn(turn, j.Close))
}
