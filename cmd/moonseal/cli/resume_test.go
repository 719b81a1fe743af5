package cli

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"moonseal/runtime/api"
)

// What is said of calls by their names, and without.
func TestVerdictFlags(t *testing.T) {
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	for _, c := range []struct {
		as, results []string
		want        api.Decision
		err         string
	}{
		{[]string{"done"}, nil, api.Decision{As: "done"}, ""},
		{[]string{"done"}, []string{`{"a=b":1}`}, api.Decision{As: "done", Result: raw(`{"a=b":1}`)}, ""},
		{[]string{"done"}, []string{`1.5`}, api.Decision{As: "done", Result: raw(`1.5`)}, ""},
		{
			[]string{"3.1=done", "3.2=again", "look"},
			[]string{`3.1={"id":1}`},
			api.Decision{As: "look", Calls: map[string]api.Verdict{"3.1": {As: "done", Result: raw(`{"id":1}`)}, "3.2": {As: "again"}}},
			"",
		},
		{[]string{"done", "again"}, nil, api.Decision{}, "given twice"},
		{[]string{"3.1=done", "3.1=again"}, nil, api.Decision{}, "given twice"},
		{[]string{"done"}, []string{"1", "2"}, api.Decision{}, "given twice"},
		{[]string{"done"}, []string{"{id: 1}"}, api.Decision{}, "--result: not valid JSON"},
		{[]string{"3.1=done"}, []string{"3.1="}, api.Decision{Calls: map[string]api.Verdict{"3.1": {As: "done", Result: raw("")}}}, ""},
	} {
		var d api.Decision
		err := verdicts(&d, c.as, c.results)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %v: %v", c.as, c.results, err)
			}
			continue
		}
		if c.want.Calls == nil {
			c.want.Calls = map[string]api.Verdict{}
		}
		if err != nil || !reflect.DeepEqual(d, c.want) {
			t.Errorf("%v, %v: %+v, %v", c.as, c.results, d, err)
		}
	}
}
