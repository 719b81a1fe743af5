package journal

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

func TestOverviews(t *testing.T) {
	j, err := Open(t.Context(), t.TempDir(), Options{})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	must(t, j.SaveBundle(t.Context(), "h", nil))
	now := time.Now().UTC()
	begin := func(playbook string) Stamp {
		s := Stamp{Run: j.NewRunID(), Epoch: 1, At: now}
		must(t, j.Write(t.Context(), RunCreated{Stamp: s, Playbook: playbook, Bundle: "h"}, RunResumed{Stamp: s}))
		return s
	}
	record := func(s Stamp, text string) {
		must(t, j.Write(t.Context(), Recorded{Stamp: s, Data: json.RawMessage(text)}))
	}
	first := begin("a")
	record(first, `{"subject":"old"}`)
	must(t, j.Write(t.Context(), RunEnded{Stamp: first, Outcome: Failed}))
	second := begin("a")
	record(second, `{"subject":"new"}`)
	must(t, j.Write(t.Context(), RunEnded{Stamp: second, Outcome: Done}))
	third := begin("a")
	must(t, j.Write(t.Context(), StepStarted{Stamp: third, Step: 0, Kind: "step", Name: "one", Attempt: 1}, StepDone{Stamp: third, Step: 0}))
	must(t, j.Write(t.Context(), StepStarted{Stamp: third, Step: 1, Kind: "step", Name: "two", Key: "k", Attempt: 1}))
	fourth := begin("b")

	all, err := j.Overviews(t.Context())
	must(t, err)
	a, b := all["a"], all["b"]
	if len(all) != 2 || a.Last.ID != second.Run || a.Last.Status != Done || a.Unfinished.ID != third.Run || a.Step != "two[k]" || len(a.Records) != 1 || string(a.Records[0].Data) != `{"subject":"new"}` {
		t.Errorf("a: %+v", a)
	}
	if b.Last != nil || b.Unfinished.ID != fourth.Run || b.Step != "" || b.Records != nil {
		t.Errorf("b: %+v", b)
	}
}

func TestARunKeepsItsLocks(t *testing.T) {
	j := openTest(t, t.TempDir())
	run := j.NewRunID()
	stamp := Stamp{Run: run, Epoch: 1, At: t0}
	must(t, j.SaveBundle(t.Context(), "h", nil))
	must(t, j.Write(t.Context(), RunCreated{Stamp: stamp, Playbook: "p", Bundle: "h", Locks: []string{"cluster:dfw", "b"}}))
	r, err := j.Run(t.Context(), run)
	if err != nil || !slices.Equal(r.Locks, []string{"cluster:dfw", "b"}) {
		t.Errorf("got %v, %v", r.Locks, err)
	}
}

// A run that ends during a read is seen, as unfinished or as the last.
func TestOverviewsSeeARunThatEnds(t *testing.T) {
	j := openTest(t, t.TempDir())
	must(t, j.SaveBundle(t.Context(), "h", nil))
	done := make(chan error, 1)
	go func() {
		for range 300 {
			s := Stamp{Run: j.NewRunID(), Epoch: 1, At: t0}
			if err := j.Write(t.Context(), RunCreated{Stamp: s, Playbook: "p", Bundle: "h"}); err != nil {
				done <- err
				return
			}
			if err := j.Write(t.Context(), RunEnded{Stamp: s, Outcome: Done}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	newest := ""
	for {
		all, err := j.Overviews(t.Context())
		must(t, err)
		seen := ""
		if o := all["p"]; o != nil {
			for _, r := range []*Run{o.Last, o.Unfinished} {
				if r != nil {
					seen = max(seen, r.ID)
				}
			}
			if o.Last != nil && o.Unfinished != nil && o.Last.ID == o.Unfinished.ID {
				t.Fatalf("run %s is seen twice", seen)
			}
		}
		if seen < newest {
			t.Fatalf("run %s is not seen, after it was", newest)
		}
		newest = seen
		select {
		case err := <-done:
			must(t, err)
			return
		default:
		}
	}
}

// A journal of an older version has what each playbook is at from its runs, once.
func TestUpgradeFindsWhatPlaybooksAreAt(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	steps, err := migrations()
	must(t, err)
	old, err := open(ctx, dir, Options{}, steps[:4])
	must(t, err)
	must(t, old.w.do(ctx, &request{fn: func(w *conn) error {
		for _, q := range []string{
			`INSERT INTO bundles VALUES ('b', 1)`,
			`INSERT INTO runs (id, playbook, bundle, status, epoch, force, created_at, updated_at, ended_at) VALUES
				('0000000001', 'a', 'b', 'done', 1, 0, 10, 10, 10), ('0000000002', 'a', 'b', 'skipped', 1, 0, 20, 20, 20), ('0000000003', 'a', 'b', 'waiting', 1, 0, 30, 30, NULL),
				('0000000004', 'gone', 'b', 'done', 1, 0, 10, 10, 10), ('0000000005', 'back', 'b', 'done', 1, 0, 10, 10, 10), ('0000000006', 'back', 'b', 'done', 1, 0, 30, 30, 30)`,
			`INSERT INTO records (run, seq, at, data) VALUES ('0000000001', 0, 10, '{"a":1}'), ('0000000004', 0, 10, '{}'), ('0000000005', 0, 10, '{}')`,
			`INSERT INTO decisions (at, what, playbook, by) VALUES (20, 'forget', 'gone', 'x'), (20, 'forget', 'back', 'x')`,
		} {
			if _, err := w.exec(q); err != nil {
				return err
			}
		}
		return nil
	}}))
	must(t, old.Close())
	j, err := Open(ctx, dir, Options{})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	views, err := j.Overviews(ctx)
	must(t, err)
	a, back := views["a"], views["back"]
	if len(views) != 2 || a == nil || back == nil {
		t.Fatalf("%+v", views)
	}
	if a.Last.ID != "0000000002" || a.Unfinished.ID != "0000000003" || len(a.Records) != 1 || string(a.Records[0].Data) != `{"a":1}` {
		t.Errorf("%+v", a)
	}
	if back.Last.ID != "0000000006" || back.Records != nil {
		t.Errorf("%+v", back)
	}
}

// The log and the shared parts of a journal of an older version are those of its runs,
// in their order, and are removed with them.
func TestUpgradeKeepsLogsAndParts(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	steps, err := migrations()
	must(t, err)
	old, err := open(ctx, dir, Options{}, steps[:6])
	must(t, err)
	const part = `"` + "-----BEGIN CERTIFICATE-----" + `"`
	must(t, old.w.do(ctx, &request{fn: func(w *conn) error {
		for _, q := range []string{
			`INSERT INTO bundles VALUES ('b', 1)`,
			`INSERT INTO runs (id, playbook, bundle, status, epoch, force, created_at, updated_at, ended_at) VALUES
				('0000000001', 'a', 'b', 'done', 1, 0, 10, 10, 10), ('0000000002', 'b', 'b', 'waiting', 1, 0, 20, 20, NULL)`,
			`INSERT INTO logs (run, at, level, step, message) VALUES ('0000000001', 1, 'info', '', 'one'), ('0000000002', 2, 'info', '', 'two'),
				('0000000001', 3, 'info', '', 'three'), ('0000000002', 4, 'info', '', 'four')`,
			`INSERT INTO shared (id, hash, body) VALUES (1, 7, '` + part + `'), (2, 8, '"only the first"')`,
			`INSERT INTO shared_by (run, shared) VALUES ('0000000001', 1), ('0000000001', 2), ('0000000002', 1)`,
			"INSERT INTO records (run, seq, at, data) VALUES ('0000000002', 0, 10, char(1) || '1')",
		} {
			if _, err := w.exec(q); err != nil {
				return err
			}
		}
		return nil
	}}))
	must(t, old.Close())
	j, err := Open(ctx, dir, Options{})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	must(t, j.Write(ctx, Logged{Stamp: Stamp{Run: "0000000002", Epoch: 1, At: time.Unix(0, 5)}, Level: "info", Message: "five"}))
	logs, err := j.Logs(ctx, "0000000002", 0, 0)
	must(t, err)
	var messages []string
	for _, l := range logs {
		messages = append(messages, l.Message)
	}
	if !slices.Equal(messages, []string{"two", "four", "five"}) {
		t.Errorf("the log is %q", messages)
	}
	if later, err := j.Logs(ctx, "0000000002", logs[0].Seq, 1); err != nil || len(later) != 1 || later[0].Message != "four" {
		t.Errorf("behind the first line: %+v, %v", later, err)
	}
	must(t, j.w.do(ctx, &request{fn: func(w *conn) error { return w.unshare("0000000001") }}))
	var left string
	must(t, j.reads.QueryRowContext(ctx, `SELECT group_concat(body) FROM shared`).Scan(&left))
	if left != part {
		t.Errorf("left of the parts: %s", left)
	}
	if h, err := j.History(ctx, "0000000002"); err != nil || string(h.Records[0].Data) != part {
		t.Errorf("%+v, %v", h, err)
	}
}
