package systest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is a moonseal lab in a process of its own, and its control API.
type lab struct {
	t   *testing.T
	url string
}

// startLab starts moonseal lab in the folder. It ends with the test.
func startLab(t *testing.T, dir string, outage time.Duration, hosts []string) *lab {
	t.Helper()
	args := []string{"lab", "--dir", dir, "--outage", outage.String()}
	if len(hosts) > 0 {
		args = append(args, "--nodes", strings.Join(hosts, ","))
	}
	cmd := exec.Command(program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("the lab ended: %v\n%s", err, stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "lab ready" {
			return &lab{t, strings.TrimSpace(read(t, filepath.Join(dir, "control.url")))}
		}
	}
	t.Fatalf("the lab does not get ready: %v, %v", lines.Err(), cmd.Wait())
	return nil
}

// noOutage lets a lab's services restart in no time.
const noOutage = time.Nanosecond

// call asks the lab: see exchange.
func (l *lab) call(ctx context.Context, method, path string, in, out any) error {
	return exchange(ctx, http.DefaultClient, method, l.url+path, in, out)
}

// exchange sends in as JSON, unless it is nil, and reads the answer into out, unless that is
// nil.
func exchange(ctx context.Context, client *http.Client, method, url string, in, out any) error {
	fail := func(err error) error { return fmt.Errorf("%s %s: %w", method, url, err) }
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fail(err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return fail(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("%s: %s", resp.Status, data))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fail(err)
	}
	return nil
}

// must is a call that must succeed while the test runs.
func (l *lab) must(method, path string, in, out any) {
	l.t.Helper()
	if err := l.call(l.t.Context(), method, path, in, out); err != nil {
		l.t.Fatal(err)
	}
}

// fault is what goes wrong with a call of the lab.
type fault struct {
	Call  string        `json:"call"`
	Kind  string        `json:"kind"`
	Code  int           `json:"code,omitempty"`
	Skip  int           `json:"skip,omitempty"`
	Times int           `json:"times,omitempty"`
	Wait  time.Duration `json:"wait,omitempty"`
}

// The kinds of fault that are used here.
const (
	holdBefore = "hold-before" // the work is not done until the call is released
	holdAfter  = "hold-after"  // the work is done, and the answer held
	failing    = "status"
	delayed    = "delay"
)

// add adds a fault and returns its id.
func (l *lab) add(f fault) int {
	l.t.Helper()
	var added struct {
		ID int `json:"id"`
	}
	l.must(http.MethodPost, "/faults", f, &added)
	return added.ID
}

// clear removes all faults and releases what they hold.
func (l *lab) clear() {
	l.t.Helper()
	l.must(http.MethodDelete, "/faults", nil, nil)
}

// release lets go of what a fault holds, now and later.
func (l *lab) release(id int) {
	l.t.Helper()
	l.must(http.MethodPost, fmt.Sprintf("/faults/%d/release", id), nil, nil)
}

// held waits until the fault holds a call. If p is not nil and ends before, the test fails.
func (l *lab) held(p *process, id int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	if p != nil {
		defer context.AfterFunc(p.done, cancel)()
	}
	err := l.call(ctx, http.MethodGet, fmt.Sprintf("/faults/%d?wait=held", id), nil, nil)
	switch {
	case err == nil:
	case p == nil:
		l.t.Fatalf("the call is not held: %v", err)
	default:
		p.kill()
		l.t.Fatalf("the call is not held: %v; exit code %d:\n%s", err, p.wait(), p.out.String())
	}
}

// dropped waits until the fault holds nothing any more, because its client is gone.
func (l *lab) dropped(id int) {
	l.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		var f struct {
			Held bool `json:"held"`
		}
		l.must(http.MethodGet, fmt.Sprintf("/faults/%d", id), nil, &f)
		if !f.Held {
			return
		}
		<-again.C
	}
}

// behave changes how a node behaves.
func (l *lab) behave(node string, behavior map[string]any) {
	l.t.Helper()
	l.must(http.MethodPost, "/cucm/"+node, map[string]any{"behavior": behavior}, nil)
}

// ledger is what has happened in the lab, as GET /ledger tells.
type ledger struct {
	Orders       []struct{ Identifiers []string }
	Certificates []struct {
		Identifiers []string
		SHA256      string
	}
	TXT struct {
		Present []struct{ Name, Value string }
		History []struct{ Name, Value, Action string }
	}
	CSRs    []struct{ Node string }
	Uploads []struct {
		Node, Kind, SHA256, Reason string
		Accepted                   bool
	}
	Restarts []struct{ Node, Service string }
	Served   map[string]string
}

func (l *lab) ledger() *ledger {
	l.t.Helper()
	var out ledger
	l.must(http.MethodGet, "/ledger", nil, &out)
	return &out
}

// restarts counts the restarts of each service of the demo's node.
func (l *ledger) restarts() map[string]int {
	out := map[string]int{}
	for _, r := range l.Restarts {
		if r.Node == demoNode {
			out[r.Service]++
		}
	}
	return out
}

// renewed checks what every renewal of the demo's playbook must end with, however often it
// was interrupted: one certificate, uploaded once and served, no TXT record left, none
// published twice, no service restarted twice, and one signing request and order. Of the
// services in twice a second restart is allowed: nothing could tell whether there had been
// one.
func (s *site) renewed(twice ...string) *ledger {
	s.t.Helper()
	l := s.lab.ledger()
	if len(l.Certificates) != 1 || len(l.Orders) != 1 || len(l.CSRs) != 1 {
		s.t.Fatalf("%d certificates, %d orders, %d signing requests, want 1 of each", len(l.Certificates), len(l.Orders), len(l.CSRs))
	}
	if got, want := l.Served[demoNode], l.Certificates[0].SHA256; got != want {
		s.t.Errorf("the node serves %s, want the issued %s", got, want)
	}
	s.uploadedOnce(l)
	if len(l.TXT.Present) > 0 {
		s.t.Errorf("TXT records are left: %v", l.TXT.Present)
	}
	var added []string
	for _, e := range l.TXT.History {
		if e.Action == "add" && slices.Contains(added, e.Value) {
			s.t.Errorf("the TXT record %s was published twice", e.Value)
		}
		added = append(added, e.Value)
	}
	restarts := l.restarts()
	for service, n := range restarts {
		if n > 1 && (n > 2 || !slices.Contains(twice, service)) {
			s.t.Errorf("%s was restarted %d times", service, n)
		}
	}
	if len(restarts) != 6 {
		s.t.Errorf("these were restarted, want 6 services: %v", restarts)
	}
	return l
}

// uploadedOnce checks that the node took one certificate, each issuer once, and refused
// nothing.
func (s *site) uploadedOnce(l *ledger) {
	s.t.Helper()
	accepted := map[string]int{}
	for _, u := range l.Uploads {
		if !u.Accepted {
			s.t.Errorf("an upload of kind %s was refused: %s", u.Kind, u.Reason)
			continue
		}
		accepted[u.Kind]++
		accepted[u.SHA256]++
		if accepted[u.SHA256] > 1 {
			s.t.Errorf("%s %s was uploaded twice", u.Kind, u.SHA256)
		}
	}
	if accepted["identity"] != 1 || accepted["trust"] != 2 {
		s.t.Errorf("accepted uploads: %v, want 1 identity and 2 of trust", accepted)
	}
}

// renewedEach checks that each of the lab's nodes has one certificate of its own, uploaded
// once.
func (s *site) renewedEach(nodes int) {
	s.t.Helper()
	l := s.lab.ledger()
	if len(l.Certificates) != nodes {
		s.t.Errorf("%d certificates were issued, want %d", len(l.Certificates), nodes)
	}
	issued := map[string]bool{}
	for _, c := range l.Certificates {
		issued[c.SHA256] = true
	}
	uploads := map[string]int{}
	for _, u := range l.Uploads {
		if u.Kind == "identity" {
			uploads[u.Node]++
			if !u.Accepted {
				s.t.Errorf("an upload to %s was refused: %s", u.Node, u.Reason)
			}
		}
	}
	for node, sha := range l.Served {
		if !issued[sha] {
			s.t.Errorf("%s serves what was not issued", node)
		}
		if uploads[node] != 1 {
			s.t.Errorf("%s got %d certificates", node, uploads[node])
		}
	}
	if len(l.Served) != nodes || len(l.TXT.Present) > 0 {
		s.t.Errorf("%d nodes serve; TXT records that are left: %v", len(l.Served), l.TXT.Present)
	}
}
