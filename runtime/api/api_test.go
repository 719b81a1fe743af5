package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// fake is a daemon that records its requests, and answers as it is set up.
type fake struct {
	mu     sync.Mutex
	asked  []string
	err    error
	status api.Status
	events []journal.Record
	end    *journal.Run
}

func (f *fake) note(v ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.Marshal(v)
	f.asked = append(f.asked, string(text))
	return errors.Join(err, f.err)
}

func (f *fake) Records() api.Records { return rows{f} }

// rows are the fake's journal.
type rows struct{ f *fake }

func (r rows) Run(_ context.Context, id string) (journal.Run, error) {
	return journal.Run{ID: id}, r.f.note("row", id)
}

func (r rows) Runs(_ context.Context, filter journal.Filter) ([]journal.Run, error) {
	return []journal.Run{{ID: "r1", Playbook: filter.Playbook}}, r.f.note("runs", filter)
}

func (r rows) Logs(_ context.Context, run string, after int64, limit int) ([]journal.Log, error) {
	return []journal.Log{{Run: run, Seq: after + 1}}, r.f.note("logs", run, after, limit)
}

func (r rows) History(_ context.Context, id string) (*journal.History, error) {
	return &journal.History{Run: journal.Run{ID: id}}, r.f.note("history", id)
}

func (r rows) Undos(_ context.Context, state journal.UndoState) ([]journal.Undo, error) {
	return []journal.Undo{{Run: "r1", State: state}}, r.f.note("undos", state)
}

func (r rows) Horizon(context.Context) (journal.Horizon, error) {
	return journal.Horizon{Runs: time.Unix(1, 0).UTC()}, r.f.note("horizon")
}

func (r rows) Decisions(_ context.Context, run string) ([]journal.Decided, error) {
	return []journal.Decided{{What: "cancel", By: "alice"}}, r.f.note("decisions", run)
}

func (r rows) Locks(context.Context) ([]journal.Lock, error) {
	return []journal.Lock{{Name: "cluster:dfw", Run: "r1"}}, r.f.note("locks")
}

func (r rows) Paused(context.Context) (journal.Paused, error) {
	return journal.Paused{"a": time.Unix(1, 0).UTC()}, r.f.note("paused")
}

func (f *fake) TestAlerts(context.Context) (*api.AlertReply, error) {
	return &api.AlertReply{Services: 2}, f.note("alerts")
}

func (f *fake) SecretNames(context.Context) ([]string, error) {
	return []string{"A"}, f.note("secrets")
}

func (f *fake) Secret(_ context.Context, name string) api.SecretState {
	return api.SecretState{Name: name, Where: "environment"}
}

func (f *fake) Examine(context.Context) ([]bind.Finding, error) {
	return []bind.Finding{{What: "node a REST", Note: "well"}}, f.note("examine")
}
func (f *fake) Status(context.Context) (*api.Status, error) { return &f.status, f.note("status") }
func (f *fake) Run(_ context.Context, by string, r api.RunRequest) (*api.RunReply, error) {
	return &api.RunReply{ID: "r1", Resumed: r.Force}, f.note("run", by, r)
}

func (f *fake) Cancel(_ context.Context, run, by string, d api.Decision) (*journal.Run, error) {
	return &journal.Run{ID: run}, f.note("cancel", run, by, d)
}

func (f *fake) Approve(_ context.Context, run, by string, d api.Decision) (*journal.Run, error) {
	return &journal.Run{ID: run}, f.note("approve", run, by, d)
}

func (f *fake) Deny(_ context.Context, run, by string, d api.Decision) (*journal.Run, error) {
	return &journal.Run{ID: run}, f.note("deny", run, by, d)
}

func (f *fake) Resume(_ context.Context, run, by string, d api.Decision) (*journal.Run, error) {
	return &journal.Run{ID: run}, f.note("resume", run, by, d)
}

func (f *fake) Unlock(_ context.Context, run, by string, d api.Decision) ([]string, error) {
	return []string{"cluster:dfw"}, f.note("unlock", run, by, d)
}

func (f *fake) Cleanup(_ context.Context, run, by string) error { return f.note("cleanup", run, by) }

func (f *fake) Forget(_ context.Context, run, by string) ([]journal.Undo, error) {
	return []journal.Undo{{Run: run}}, f.note("forget", run, by)
}

func (f *fake) ForgetPlaybook(_ context.Context, by string, r api.ForgetRequest) error {
	return f.note("forget playbook", by, r)
}

func (f *fake) Pause(_ context.Context, by string, r api.PauseRequest) error {
	return f.note("pause", by, r)
}

func (f *fake) Reload(context.Context) (*api.ReloadReply, error) {
	return &api.ReloadReply{Added: []string{"a"}}, f.note("reload")
}

func (f *fake) Backup(_ context.Context, w io.Writer) error {
	_, _ = io.WriteString(w, "half of a copy")
	return f.note("backup")
}

func (f *fake) Follow(_ context.Context, _ string, tell func(journal.Record) error) (*journal.Run, error) {
	for _, rec := range f.events {
		if err := tell(rec); err != nil {
			return nil, err
		}
	}
	return f.end, f.err
}

// folder is one whose name is short enough for a socket.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// serve serves f and returns the socket's path.
func serve(t *testing.T, f api.Daemon) string {
	t.Helper()
	path := filepath.Join(folder(t), "s")
	l, err := api.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, f, "v2", slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestEachCallGoesThere(t *testing.T) {
	f := &fake{status: api.Status{
		Version: "v", Playbooks: []api.PlaybookStatus{{Name: "a", Served: []api.Served{}, Running: &api.Running{ID: "r"}}},
		Scripts: []*problem.Error{}, Problems: []api.Problem{},
	}}
	c := api.Dial(serve(t, f))
	ctx := t.Context()
	me, err := user.Current()
	check(t, err)
	s, err := c.Status(ctx)
	check(t, err)
	if !reflect.DeepEqual(*s, f.status) {
		t.Errorf("got %+v, want %+v", *s, f.status)
	}
	reply, err := c.Run(ctx, api.RunRequest{Playbook: "a/b", Force: true})
	check(t, err)
	if *reply != (api.RunReply{ID: "r1", Resumed: true}) {
		t.Errorf("got %+v", reply)
	}
	for _, act := range []func(context.Context, string, api.Decision) (*journal.Run, error){c.Cancel, c.Approve, c.Deny, c.Resume} {
		r, err := act(ctx, "r/1", api.Decision{Ticket: "CHG1", As: "done"})
		check(t, err)
		if r.ID != "r/1" {
			t.Errorf("got %+v", r)
		}
	}
	names, err := c.Unlock(ctx, "r1", api.Decision{Reason: "why"})
	check(t, err)
	left, err := c.Forget(ctx, "r1")
	check(t, err)
	if !reflect.DeepEqual(names, []string{"cluster:dfw"}) || len(left) != 1 || left[0].Run != "r1" {
		t.Errorf("got %v, %v", names, left)
	}
	check(t, c.Cleanup(ctx, "r1"))
	check(t, c.Pause(ctx, api.PauseRequest{Playbook: "a", Paused: true}))
	changes, err := c.Reload(ctx)
	check(t, err)
	if !slices.Equal(changes.Added, []string{"a"}) {
		t.Errorf("got %+v", changes)
	}
	by := `"` + me.Username + `"`
	all := by + `,{"ticket":"CHG1","as":"done"}]`
	want := []string{
		`["status"]`, `["run",` + by + `,{"playbook":"a/b","force":true}]`,
		`["cancel","r/1",` + all, `["approve","r/1",` + all, `["deny","r/1",` + all, `["resume","r/1",` + all,
		`["unlock","r1",` + by + `,{"reason":"why"}]`, `["forget","r1",` + by + `]`, `["cleanup","r1",` + by + `]`,
		`["pause",` + by + `,{"playbook":"a","paused":true}]`, `["reload"]`,
	}
	if !reflect.DeepEqual(f.asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(f.asked, "\n"), strings.Join(want, "\n"))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Only root may name another user behind it.
func TestWhoIsTakenFromTheSocket(t *testing.T) {
	f := &fake{}
	_, err := api.Dial(serve(t, f)).As("alice").Approve(t.Context(), "r1", api.Decision{})
	check(t, err)
	me, err := user.Current()
	check(t, err)
	want := `["approve","r1","` + me.Username + `",{}]`
	if me.Uid == "0" {
		want = `["approve","r1","alice (as ` + me.Username + `)",{}]`
	}
	if f.asked[0] != want {
		t.Errorf("got %s, want %s", f.asked[0], want)
	}
	for _, odd := range []string{"two words", "a\tb", strings.Repeat("a", 300)} { // no user has such a name
		_, err := api.Dial(serve(t, f)).As(odd).Approve(t.Context(), "r1", api.Decision{})
		check(t, err)
		if got := f.asked[len(f.asked)-1]; got != `["approve","r1","`+me.Username+`",{}]` {
			t.Errorf("%.10q: %s", odd, got)
		}
	}
}

func TestAnErrorComesOutAsItWentIn(t *testing.T) {
	for _, kind := range []problem.Kind{problem.NotFound, problem.Usage, problem.Conflict, problem.Unavailable, problem.Internal} {
		in := &problem.Error{Kind: kind, Target: "run r1", Message: "it is so", Hint: "do this", Place: &problem.Place{File: "a.lua", Line: 3}}
		c := api.Dial(serve(t, &fake{err: in}))
		_, err := c.Status(t.Context())
		if !reflect.DeepEqual(err, error(in)) {
			t.Errorf("%s: got %#v", kind, err)
		}
		if _, err := c.Follow(t.Context(), "r1", func(journal.Record) {}); !reflect.DeepEqual(err, error(in)) {
			t.Errorf("%s: follow: got %#v", kind, err)
		}
	}
}

func TestFollow(t *testing.T) {
	stamp := journal.Stamp{Run: "r1", Epoch: 1, At: time.Unix(1, 0).UTC()}
	f := &fake{events: []journal.Record{journal.RunResumed{Stamp: stamp}, journal.RunEnded{Stamp: stamp}}, end: &journal.Run{ID: "r1", Status: journal.Done}}
	c := api.Dial(serve(t, f))
	var got []journal.Record
	r, err := c.Follow(t.Context(), "r1", func(rec journal.Record) { got = append(got, rec) })
	check(t, err)
	if !reflect.DeepEqual(got, f.events) || r.Status != journal.Done {
		t.Errorf("got %v, then %v", got, r)
	}
	// A daemon that stops in the middle is no end of the run.
	f.err = errors.New("stopping")
	_, err = c.Follow(t.Context(), "r1", func(journal.Record) {})
	if e := problem.From(err); e.Kind != problem.Unavailable || !strings.Contains(e.Message, "the daemon stopped") {
		t.Errorf("got %v", err)
	}
}

// A copy that broke off must not look like a whole one.
func TestBrokenBackup(t *testing.T) {
	f := &fake{}
	c := api.Dial(serve(t, f))
	var copied bytes.Buffer
	check(t, c.Backup(t.Context(), &copied))
	if copied.String() != "half of a copy" {
		t.Errorf("got %q", copied.String())
	}
	f.err = errors.New("the disk is full")
	if err := c.Backup(t.Context(), io.Discard); err == nil {
		t.Error("a backup that failed is no error")
	}
}

func TestBadRequests(t *testing.T) {
	f := &fake{}
	path := serve(t, f)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"another method":    {http.MethodGet, "/run", "", http.StatusMethodNotAllowed, ""},
		"another path":      {http.MethodGet, "/nothing", "", http.StatusNotFound, ""},
		"no JSON":           {http.MethodPost, "/run", "playbook", http.StatusBadRequest, "malformed JSON"},
		"an unknown key":    {http.MethodPost, "/run", `{"playbok":"a"}`, http.StatusBadRequest, "playbok"},
		"another type":      {http.MethodPost, "/pause", `{"paused":"yes"}`, http.StatusBadRequest, "paused"},
		"nothing":           {http.MethodPost, "/pause", "", http.StatusBadRequest, "malformed JSON"},
		"too large":         {http.MethodPost, "/run", `{"playbook":"` + strings.Repeat("a", 64<<10) + `"}`, http.StatusBadRequest, "too large"},
		"too large for any": {http.MethodPost, "/runs/r1/approve", `{"reason":"` + strings.Repeat("a", 1<<20) + `"}`, http.StatusBadRequest, "too large"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://moonseal"+c.path, strings.NewReader(c.body))
		check(t, err)
		res, err := client.Do(req)
		check(t, err)
		body, err := io.ReadAll(res.Body)
		check(t, errors.Join(err, res.Body.Close()))
		if res.StatusCode != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("the daemon was asked: %v", f.asked)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := folder(t)
	left := filepath.Join(dir, "left") // by a daemon that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	check(t, err)
	l.SetUnlinkOnClose(false)
	check(t, l.Close())
	for _, path := range []string{filepath.Join(dir, "none"), left} {
		_, err := api.Dial(path).Status(t.Context())
		e := problem.From(err)
		if !errors.Is(err, api.ErrNoDaemon) || e.Message != "no daemon is running" || e.Target != path || !strings.Contains(e.Hint, "moonseal serve") {
			t.Errorf("%s: %#v", path, e)
		}
	}
}

func TestListen(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "s")
	for range 2 { // the second in place of the one that the first has left
		l, err := api.Listen(path, "")
		check(t, err)
		info, err := os.Stat(path)
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the socket has mode %o", info.Mode().Perm())
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		check(t, l.Close())
	}
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, []byte("kept"), 0o600))
	for name, c := range map[string]struct{ path, group, says string }{
		"a file":           {file, "", "not a socket"},
		"no folder":        {filepath.Join(dir, "no", "s"), "", "no such file"},
		"a long path":      {filepath.Join(dir, strings.Repeat("a", 108)), "", "at most 107 bytes"},
		"an unknown group": {filepath.Join(dir, "g"), "no-such-group-here", "cannot be opened to the group no-such-group-here: "},
	} {
		_, err := api.Listen(c.path, c.group)
		if e := problem.From(err); err == nil || e.Kind != problem.Usage || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestListenForAGroup(t *testing.T) {
	g, err := user.LookupGroupId("0")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(folder(t), "s")
	l, err := api.Listen(path, g.Name)
	check(t, err)
	info, err := os.Stat(path)
	check(t, errors.Join(err, l.Close()))
	if info.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %o", info.Mode().Perm())
	}
}

// What is not known is null, and there.
func TestStatusHasItsShape(t *testing.T) {
	got, err := json.Marshal(api.Status{Playbooks: []api.PlaybookStatus{{Name: "a"}, {Name: "b", Script: "b.lua", Bundle: "h", Running: &api.Running{ID: "r"}}}})
	check(t, err)
	for _, want := range []string{
		`{"name":"a","error":null,"next_run":null,"served":[],"last_run":null,"running":null,"script":null,"bundle":null}`,
		`"script":"b.lua","bundle":"h"`, `"step":null`, `"waits_for":null`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	var back api.Status
	if err := json.Unmarshal(got, &back); err != nil || back.Playbooks[1].Script != "b.lua" || back.Playbooks[1].Running.WaitsFor != "" {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestRecords(t *testing.T) {
	f := &fake{}
	c := api.Dial(serve(t, f))
	r := c.Records()
	ctx := t.Context()
	if runs, err := r.Runs(ctx, journal.Filter{Playbook: "a b", Limit: 3}); err != nil || len(runs) != 1 || runs[0].Playbook != "a b" {
		t.Errorf("runs: %v, %v", runs, err)
	}
	if run, err := r.Run(ctx, "x/y"); err != nil || run.ID != "x/y" {
		t.Errorf("run: %v, %v", run, err)
	}
	if lines, err := r.Logs(ctx, "r1", 41, 5); err != nil || len(lines) != 1 || lines[0].Seq != 42 {
		t.Errorf("logs: %v, %v", lines, err)
	}
	if h, err := r.History(ctx, "r1"); err != nil || h.Run.ID != "r1" {
		t.Errorf("history: %v, %v", h, err)
	}
	if undos, err := r.Undos(ctx, journal.UndoPending); err != nil || len(undos) != 1 || undos[0].State != journal.UndoPending {
		t.Errorf("undos: %v, %v", undos, err)
	}
	want := `["runs",{"Playbook":"a b","Status":"","Limit":3}] ["row","x/y"] ["logs","r1",41,5] ["history","r1"] ["undos","pending"]`
	if got := strings.Join(f.asked, " "); got != want {
		t.Errorf("asked %s\nwant  %s", got, want)
	}
	if s, err := c.Secret(ctx, "A/B"); err != nil || s.Name != "A/B" || s.Where != "environment" {
		t.Errorf("secret: %+v, %v", s, err)
	}
	f.err = &problem.Error{Kind: problem.NotFound, Message: "there is no run"}
	if _, err := r.Run(ctx, "r2"); problem.From(err).Kind != problem.NotFound {
		t.Errorf("got %v", err)
	}
}
