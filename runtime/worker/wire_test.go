package worker

import (
	"encoding/json"
	"errors"
	"net"
	"reflect"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

func someFrames() []*frame {
	s := journal.Stamp{Run: "0123456789", Epoch: 2, At: time.Unix(1700000000, 5).UTC()}
	started := journal.StepStarted{Stamp: s, Step: 1, Kind: "step", Name: "n", Attempt: 1}
	done := journal.StepDone{Stamp: s, Step: 1, Result: json.RawMessage(`{"b":1,"a":2}`)}
	return []*frame{
		{Seq: 1, Write: &writing{Lazy: []journal.Record{started}, Synced: []journal.Record{done}}},
		{Seq: 300, Write: &writing{Lazy: []journal.Record{}, Synced: []journal.Record{done, started}}},
		{Write: &writing{Lazy: []journal.Record{started, started}, Synced: []journal.Record{}}},
		{Seq: 1, Answer: &answer{}},
		{Seq: 1, Answer: &answer{Drain: true}},
		{Seq: 1, Answer: &answer{Value: "v"}},
		{Seq: 1, Answer: &answer{Error: &problem.Error{Kind: problem.Auth, Message: "no"}}},
		{Cancel: &cancelling{Decisions: []journal.Decided{{What: journal.DecidedCancel, By: "alice"}}}},
		{Drain: true},
		{Piece: &piece{Bytes: []byte("a row")}},
		{Piece: &piece{Bytes: []byte{}, Last: true}},
		{Seq: 9, Secret: "NAME"},
	}
}

func TestFramesComeAsTheyWereSent(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	sent := make(chan error, 1)
	go func() {
		c := newConn(near)
		var errs []error
		for _, f := range someFrames() {
			errs = append(errs, c.send(f))
		}
		sent <- errors.Join(errs...)
	}()
	c := newConn(far)
	for _, want := range someFrames() {
		got, err := c.receive()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v\nwant %+v", got, err, want)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func FuzzFrame(f *testing.F) {
	for _, fr := range someFrames() {
		b, err := fr.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(b)
		if err != nil {
			return
		}
		again, err := fr.append(nil)
		if err != nil {
			t.Fatalf("%+v: %v", fr, err)
		}
		if _, err := readFrame(again); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
