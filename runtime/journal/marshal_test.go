package journal_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"moonseal/runtime/journal"
)

// What a run journals comes back byte by byte, on the wire and from the disk.
func TestRawJSONComesBackAsItWas(t *testing.T) {
	raw := json.RawMessage(`{"pem":"# O=R&D <x>` + "\u2028" + `","n":[1e-07,1e+21,-0],"b":1,"a":2}`)
	s := journal.Stamp{Run: "r", Epoch: 1, At: time.Unix(1700000000, 0).UTC()}
	rec := journal.EffectMarked{Stamp: s, Fn: "f", Args: raw, Look: raw, Undo: &journal.UndoSpec{Fn: "f", Args: raw}}
	packed, err := journal.Pack(nil, rec)
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := journal.Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	line, err := journal.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := journal.Decode(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []journal.Record{back, again} {
		r, _ := got.(journal.EffectMarked)
		for _, part := range []json.RawMessage{r.Args, r.Look, r.Undo.Args} {
			if !bytes.Equal(part, raw) {
				t.Errorf("got %s\nwant %s", part, raw)
			}
		}
	}
	h := journal.History{Effects: []journal.Effect{{Args: raw}}}
	text, err := journal.Marshal(h)
	if err != nil || !bytes.Contains(text, raw) {
		t.Errorf("%s, %v", text, err)
	}
}
