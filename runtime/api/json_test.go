package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"moonseal/runtime/journal"
)

// A list is [] or left out, never null, in every reply that is empty.
func TestListsAreNeverNull(t *testing.T) {
	for _, v := range []any{
		Status{},
		Problem{},
		PlaybookStatus{},
		Served{},
		LastRun{},
		Running{},
		Lock{},
		RunReply{},
		ReloadReply{},
		AlertReply{},
		SecretState{},
		Event{},
		journal.Run{},
		journal.History{},
		journal.Log{},
		journal.Undo{},
		journal.Decided{},
		journal.Lock{},
		journal.Horizon{},
	} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(raw, &keys); err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		for _, field := range reflect.VisibleFields(reflect.TypeOf(v)) {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			isList := field.Type.Kind() == reflect.Slice && field.Type != reflect.TypeFor[json.RawMessage]()
			if text, there := keys[key]; isList && there && string(text) != "[]" {
				t.Errorf("%T: %s is %s", v, key, text)
			}
		}
	}
	for name, reply := range map[string]any{"runs": mustList[journal.Run](t), "names": mustList[string](t)} {
		if raw, err := json.Marshal(reply); err != nil || string(raw) != "[]" {
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
}

// mustList returns the reply of an empty list.
func mustList[T any](t *testing.T) any {
	t.Helper()
	reply, err := listed[T](nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}
