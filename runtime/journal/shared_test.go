package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// memory stores parts as the journal does.
type memory struct {
	ids    map[string]int64
	bodies [][]byte
}

func (m *memory) put(body []byte) (int64, error) {
	if id, known := m.ids[string(body)]; known {
		return id, nil
	}
	if m.ids == nil {
		m.ids = map[string]int64{}
	}
	m.bodies = append(m.bodies, bytes.Clone(body))
	m.ids[string(body)] = int64(len(m.bodies))
	return int64(len(m.bodies)), nil
}

func (m *memory) get(id int64) ([]byte, error) {
	if id < 1 || id > int64(len(m.bodies)) {
		return nil, fmt.Errorf("there is no %d", id)
	}
	return m.bodies[id-1], nil
}

// there checks that a value comes back byte by byte.
func there(t rapid.TB, m *memory, value []byte) {
	if text, err := split(value, false, m.put); err != nil || len(value) > 0 && bytes.HasPrefix(bytes.TrimSpace(text), []byte{sharedMark}) {
		t.Fatalf("all of it is one part: %s, %v", text, err)
	}
	text, err := split(value, true, m.put)
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	back, err := join(text, m.get)
	if err != nil || !bytes.Equal(back, value) {
		t.Fatalf("%s\ncame back as\n%s, %v", value, back, err)
	}
}

// Whatever the value: it comes back byte by byte.
func TestSplitAndJoin(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		text := rapid.Custom(func(t *rapid.T) any {
			return strings.Repeat(rapid.StringN(0, 20, -1).Draw(t, "text"), rapid.SampledFrom([]int{0, 1, 30}).Draw(t, "times"))
		})
		if depth == 0 {
			return text
		}
		inner := value(depth - 1)
		return rapid.OneOf(text,
			rapid.Custom(func(t *rapid.T) any { return rapid.Float64Range(-1e9, 1e9).Draw(t, "number") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(inner, 0, 6).Draw(t, "list") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.MapOfN(rapid.String(), inner, 0, 6).Draw(t, "object") }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := &memory{}
		v := value(4).Draw(t, "value")
		plain, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		there(t, m, plain)
		indented, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		there(t, m, indented)
	})
}

func FuzzSplitAndJoin(f *testing.F) {
	long := strings.Repeat("x", 2*sharedValue)
	for _, seed := range []string{
		``, `null`, `"` + long + `"`, `{"pem":"` + long + `","b":[1,"` + long + `\n",{}]}`, strings.Repeat("[", 500) + strings.Repeat("]", 500),
		`{"a":"` + long + `\\"}`, `{"a":"` + long + `\`, strings.Repeat(`{"a":`, 100), "{\x01" + long + "}", strings.Repeat(`{"abcdefgh":[1,2,3],"x":`, 200) + `"` + long + `"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m := &memory{}
		if bytes.IndexByte(value, sharedMark) >= 0 && len(value) >= sharedText {
			if _, err := split(value, true, m.put); !errors.Is(err, ErrMisuse) {
				t.Fatalf("%q: %v", value, err)
			}
			return
		}
		if bytes.IndexByte(value, sharedMark) < 0 {
			there(t, m, value)
		}
		_, _ = join(value, m.get) // what a damaged file holds is an error at most
	})
}

func certificate(text string) string {
	pem, _ := json.Marshal("-----BEGIN CERTIFICATE-----\n" + strings.Repeat(text, 1200/len(text)) + "\n-----END CERTIFICATE-----\n")
	return `{"subject":"cucm01-pub.example.com","issuer":"Some CA","self_signed":false,"not_after":1.803695536e+09,"serial":"` + strings.Repeat("7d", 16) + `","names":["cucm01-pub.example.com"],"sha256":"` +
		strings.Repeat(text, 64/len(text)) + `","key_sha256":"` + strings.Repeat("ab", 32) + `","pem":` + string(pem) + `,"intermediates":{},"root":""}`
}

// A certificate is stored once, in whatever place of however many runs, and as long as
// one of them is kept. What a step compares is as it was written.
func TestLargeValuesAreStoredOnce(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	k := keeping(t)
	one, two := certificate("1"), certificate("2")
	result := json.RawMessage(`{"installed":` + one + `,"served":` + one + `,"ours":` + two + `}`)
	var runs []string
	for range 20 {
		runs = append(runs, k.run("a", "record", "undo", "end"))
		s := Stamp{Run: runs[len(runs)-1], Epoch: 1, At: k.clock.Now()}
		must(t, k.Write(t.Context(),
			StepStarted{Stamp: s, Step: 1, Kind: "step", Name: "b", Attempt: 1},
			EffectMarked{Stamp: s, Step: 1, Fn: "f", Args: json.RawMessage(one), Look: json.RawMessage(two), Undo: &UndoSpec{N: 1, Fn: "f", Args: json.RawMessage(one)}},
			EffectProgress{Stamp: s, Step: 1, Progress: json.RawMessage(two)},
			EffectDone{Stamp: s, Step: 1, Result: result},
			StepDone{Stamp: s, Step: 1, Result: result},
			Recorded{Stamp: s, Data: json.RawMessage(`{"subject":"x","served":` + one + `}`)},
			UndoDone{Stamp: s}, UndoDone{Stamp: s, N: 1},
			RunEnded{Stamp: s, Outcome: Done}))
		k.clock.Advance(day)
	}
	for _, run := range runs {
		h, err := k.History(t.Context(), run)
		must(t, err)
		e, u := h.Effects[1], h.Undos[1]
		for name, v := range map[string][2]string{
			"result": {string(h.Steps[1].Result), string(result)}, "effect's result": {string(e.Result), string(result)}, "args": {string(e.Args), one},
			"look": {string(e.Look), two}, "progress": {string(e.Progress), two}, "undo's args": {string(u.Args), one}, "undo's look": {string(u.Look), two},
			"record": {string(h.Records[0].Data), `{"subject":"x","served":` + one + `}`},
		} {
			if v[0] != v[1] {
				t.Errorf("%s: %s", name, v[0])
			}
		}
	}
	views, err := k.Overviews(t.Context())
	must(t, err)
	if last := views["a"].Records; len(last) != 1 || !strings.Contains(string(last[0].Data), one) {
		t.Errorf("%v", last)
	}
	const different = 4 // two texts and their certificates
	if n := k.count("shared"); n != different {
		t.Errorf("%d parts are stored", n)
	}
	var size int
	must(t, k.reads.QueryRowContext(t.Context(), `SELECT sum(octet_length(result)) FROM steps`).Scan(&size))
	if most := len(runs) * 100; size > most {
		t.Errorf("the steps' results have %d bytes, more than %d", size, most)
	}

	k.purge(Keep{Runs: 10 * day})
	if n := k.count("shared"); n != different {
		t.Errorf("half of the runs removed: %d parts", n)
	}
	k.clock.Advance(100 * day)
	k.run("a") // its records are the newest, its end the last
	k.purge(Keep{Runs: 10 * day})
	if shared, by := k.count("shared"), k.count("shared_by"); shared+by != 0 {
		t.Errorf("of what is gone %d parts are left, held %d times", shared, by)
	}
	k.clock.Advance(day)
	s := Stamp{Run: k.run("b", "end"), Epoch: 1, At: k.clock.Now()}
	must(t, k.Write(t.Context(), Recorded{Stamp: s, Seq: 7, Data: json.RawMessage(one)}))
	if rows, err := k.LastRecords(t.Context(), "b"); err != nil || string(rows[len(rows)-1].Data) != one {
		t.Errorf("stored again after it was removed: %v, %v", rows, err)
	}
}

// What was stored with a commit that failed is stored again with the next.
func TestLargeValueOfARefusedWrite(t *testing.T) {
	k := keeping(t)
	s := Stamp{Run: k.run("a", "end"), Epoch: 1, At: k.clock.Now()}
	data := json.RawMessage(certificate("1"))
	err := k.Write(t.Context(), Recorded{Stamp: s, Seq: 1, Data: data}, StepDone{Stamp: s, Step: 99})
	if !errors.Is(err, ErrMisuse) {
		t.Fatalf("%v", err)
	}
	must(t, k.Write(t.Context(), Recorded{Stamp: s, Seq: 1, Data: data}))
	if rows, err := k.LastRecords(t.Context(), "a"); err != nil || string(rows[len(rows)-1].Data) != string(data) {
		t.Errorf("%v, %v", rows, err)
	}
}

func (k *kept) count(table string) (n int) {
	k.t.Helper()
	must(k.t, k.reads.QueryRowContext(k.t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}
