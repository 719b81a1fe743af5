package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Row is a row of a history: a [Run], [Step], [Effect], [Undo], [RecordedRow], [HookRow],
// [Decided], [Leftover] or [LogSize].
type Row interface {
	addTo(h *History)
	tag() byte
	parts(out []part) []part
}

func (r Run) addTo(h *History)         { h.Run = r }
func (s Step) addTo(h *History)        { h.Steps = append(h.Steps, s) }
func (e Effect) addTo(h *History)      { h.Effects = append(h.Effects, e) }
func (u Undo) addTo(h *History)        { h.Undos = append(h.Undos, u) }
func (r RecordedRow) addTo(h *History) { h.Records = append(h.Records, r) }
func (h HookRow) addTo(to *History)    { to.Hooks = append(to.Hooks, h) }
func (d Decided) addTo(h *History)     { h.Decisions = append(h.Decisions, d) }
func (l Leftover) addTo(h *History)    { h.Before = &l }
func (l LogSize) addTo(h *History)     { h.LogSize = l }

func (Run) tag() byte         { return 'r' }
func (Step) tag() byte        { return 's' }
func (Effect) tag() byte      { return 'e' }
func (Undo) tag() byte        { return 'u' }
func (RecordedRow) tag() byte { return 'w' }
func (HookRow) tag() byte     { return 'h' }
func (Decided) tag() byte     { return 'd' }
func (Leftover) tag() byte    { return 'b' }
func (LogSize) tag() byte     { return 'l' }

// rows calls each with all rows of h.
func (h *History) rows(each func(Row)) {
	each(h.Run)
	eachOf(h.Steps, each)
	eachOf(h.Effects, each)
	eachOf(h.Undos, each)
	eachOf(h.Records, each)
	eachOf(h.Hooks, each)
	eachOf(h.Decisions, each)
	if h.Before != nil {
		each(*h.Before)
	}
	each(h.LogSize)
}

func eachOf[T Row](list []T, each func(Row)) {
	for _, row := range list {
		each(row)
	}
}

// AppendRow appends row to b, for a [Collector] of the same build.
func AppendRow(b []byte, row Row) ([]byte, error) {
	body, err := Marshal(row)
	if err != nil {
		return nil, misuse("a row of the history: %v", err)
	}
	b = binary.AppendUvarint(append(b, row.tag()), uint64(len(body)))
	return append(b, body...), nil
}

// Collector assembles a history from the bytes that [AppendRow] made, which come in pieces.
// The zero Collector is ready to use.
type Collector struct {
	history History
	rest    []byte // of a row that is not complete yet
}

// Add adds the next piece. It does not keep b.
func (c *Collector) Add(piece []byte) error {
	c.rest = append(c.rest, piece...)
	at := c.rest
	for {
		n, err := c.row(at)
		if err != nil {
			return err
		}
		if n == 0 {
			if len(at) < len(c.rest) { // a long row is not moved with each of its pieces
				c.rest = append(c.rest[:0], at...)
			}
			return nil
		}
		at = at[n:]
	}
}

// History returns the history once all pieces were added, and resets c.
func (c *Collector) History() (*History, error) {
	if len(c.rest) > 0 {
		return nil, misuse("a history that ends within a row")
	}
	h := c.history
	*c = Collector{}
	return &h, nil
}

// row decodes the row at the head of b and returns its length, 0 while it is not complete.
func (c *Collector) row(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	into, ok := collected[b[0]]
	if !ok {
		return 0, misuse("a row of the history of unknown kind %q", b[0])
	}
	size, n := binary.Uvarint(b[1:])
	if n < 0 {
		return 0, misuse("a row of the history without a length")
	}
	head := 1 + n
	if n == 0 || size > uint64(len(b[head:])) {
		return 0, nil
	}
	end := head + int(size) //nolint:gosec // within b
	if err := into(b[head:end], &c.history); err != nil {
		return 0, misuse("a row of the history: %v", err)
	}
	return end, nil
}

//nolint:gochecknoglobals // never changed
var collected = map[byte]func([]byte, *History) error{
	Run{}.tag(): collect[Run], Step{}.tag(): collect[Step], Effect{}.tag(): collect[Effect], Undo{}.tag(): collect[Undo],
	RecordedRow{}.tag(): collect[RecordedRow], HookRow{}.tag(): collect[HookRow], Decided{}.tag(): collect[Decided],
	Leftover{}.tag(): collect[Leftover], LogSize{}.tag(): collect[LogSize],
}

func collect[T Row](b []byte, h *History) error {
	var row T
	if err := json.Unmarshal(b, &row); err != nil {
		return fmt.Errorf("%T: %w", row, err)
	}
	row.addTo(h)
	return nil
}
