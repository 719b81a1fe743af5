package worker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"moonseal/runtime/bundle"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// Bounds of one frame, in bytes.
const (
	maxFrame = 64 << 20 // a folder of scripts
	maxWrite = 8 << 20  // records: the buffered ones, and one with all the values that it may have
	maxPiece = 60 << 10 // a piece of a history
)

// frame is one message. Exactly one of its parts is set, besides Seq.
type frame struct {
	Seq uint64 `json:"seq,omitempty"` // of a request that expects an answer, and of its answer

	// From the parent.
	Job    *Job        `json:"job,omitempty"`
	Piece  *piece      `json:"-"`
	Answer *answer     `json:"answer,omitempty"`
	Cancel *cancelling `json:"cancel,omitempty"`
	Drain  bool        `json:"drain,omitempty"` // stop where the run can continue later

	// From the child.
	Write  *writing `json:"-"`
	Secret string   `json:"secret,omitempty"` // asks for a secret's value
	Shown  bool     `json:"shown,omitempty"`  // the value is not masked: it is a user's name
	Held   *heldBy  `json:"held,omitempty"`
	Loaded *Loaded  `json:"loaded,omitempty"`
	Result *Result  `json:"result,omitempty"`
}

// Job is the task of a child.
type Job struct {
	Build    string            `json:"build,omitempty"`    // of the parent; a child of another build refuses
	Playbook string            `json:"playbook,omitempty"` // to run; "" only loads
	Files    map[string]string `json:"files,omitempty"`    // the scripts folder, for a load and a new run
	Problems []*problem.Error  `json:"problems,omitempty"` // of reading the folder
	Sources  map[string]string `json:"sources,omitempty"`  // the run's sources, to resume it
	Settings map[string]string `json:"settings,omitempty"` // of modules, YAML by name
	Network  grant.Options     `json:"network"`            // the parent fills in what is allowed
	Grants   grant.Rules       `json:"grants,omitempty"`   // of all playbooks
	State    string            `json:"state"`              // the state directory
	Mode     run.Mode          `json:"mode,omitempty"`
	// Scriptless cleans up without the run's scripts, which may end the process.
	Scriptless bool `json:"scriptless,omitempty"`
	// Blackouts are when no appliance is changed, whatever the playbook's window. Now
	// overrides both.
	Blackouts []string `json:"blackouts,omitempty"`
	Now       bool     `json:"now,omitempty"`

	// Grace is how long a call under way may continue once the run is cancelled.
	Grace time.Duration `json:"grace,omitempty"`

	// Handles makes a load return the handles that scripts make, and those in Journaled,
	// which their runs have journaled, by file.
	Handles   bool                         `json:"handles,omitempty"`
	Journaled map[string][]json.RawMessage `json:"journaled,omitempty"`
	Examine   *Examination                 `json:"examine,omitempty"` // to examine instead of running
}

// Loaded is what the scripts define.
type Loaded struct {
	Playbooks []*bundle.Playbook `json:"playbooks"`
	Problems  []*problem.Error   `json:"problems,omitempty"`
	Secrets   []string           `json:"secrets,omitempty"` // names that the scripts name at the top, of a load
	Made      []Made             `json:"made,omitempty"`    // handles that can be looked at, of a load
}

// piece is a part of the run's history, as [journal.AppendRow] encodes it. The last one
// starts the run in a child that has loaded its scripts.
type piece struct {
	Bytes []byte
	Last  bool
}

// answer is an answer. Without an error, to a writing, it says that it is synced.
type answer struct {
	Drain bool              `json:"drain,omitempty"` // stop at the end of the next step
	Error *problem.Error    `json:"error,omitempty"`
	Value string            `json:"value,omitempty"`
	Held  map[string]string `json:"held,omitempty"`
}

// writing is records for the journal. Only synced ones are answered.
type writing struct {
	Lazy   []journal.Record // written with the next commit
	Synced []journal.Record
}

// cancelling cancels the child's run, with the decisions about it.
type cancelling struct {
	Decisions []journal.Decided `json:"decisions,omitempty"`
	Now       bool              `json:"now,omitempty"` // without waiting for the call under way
}

type heldBy struct {
	Values []string `json:"values"`
	Except string   `json:"except"`
}

// The forms of a frame's body. What each step sends is frequent and has a form of its own;
// all else is JSON.
const (
	formJSON   = 'j'
	formWrite  = 'w' // the number of lazy records, and all records as [journal.Pack] has them
	formSynced = 's' // whether to drain: the answer to a writing that is synced
	formPiece  = 'p' // whether it is the last one, and its bytes
)

// conn sends and receives frames. Sending is safe for concurrent use.
type conn struct {
	rw  Pair
	r   *bufio.Reader // of rw
	in  []byte        // the body that was received last
	mu  sync.Mutex
	out []byte // the frame that was sent last
}

// errMalformed is the error of bytes that are not a frame.
var errMalformed = errors.New("malformed message between the run's processes")

// mostOf returns the bound of a frame whose body begins with form.
func mostOf(form byte) int {
	switch form {
	case formWrite:
		return maxWrite
	case formPiece:
		return keptBuffer
	default:
		return maxFrame
	}
}

// keptBuffer is the largest buffer that is kept for the next frame, in bytes.
const keptBuffer = 64 << 10

func newConn(rw Pair) *conn { return &conn{rw: rw, r: bufio.NewReaderSize(rw, 16<<10)} }

func (c *conn) send(f *frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const head = 4
	b, err := f.append(append(c.out[:0], make([]byte, head)...))
	if err != nil {
		return err
	}
	n := len(b) - head
	if most := mostOf(b[head]); n > most {
		return fmt.Errorf("a message of %d bytes between the run's processes, more than %d", n, most)
	}
	binary.BigEndian.PutUint32(b, uint32(n)) //nolint:gosec // every bound is below it
	c.out = nil
	if cap(b) <= keptBuffer {
		c.out = b
	}
	_, err = c.rw.Write(b)
	return err
}

// append adds the frame's body to b.
func (f *frame) append(b []byte) (_ []byte, err error) {
	switch {
	case f.Write != nil:
		b = binary.AppendUvarint(append(b, formWrite), f.Seq)
		b = binary.AppendUvarint(b, uint64(len(f.Write.Lazy)))
		for _, recs := range [][]journal.Record{f.Write.Lazy, f.Write.Synced} {
			for _, rec := range recs {
				if b, err = journal.Pack(b, rec); err != nil {
					return nil, err
				}
			}
		}
		return b, nil
	case f.Piece != nil:
		return append(append(b, formPiece, flag(f.Piece.Last)), f.Piece.Bytes...), nil
	case f.Answer != nil && f.Answer.Error == nil && f.Answer.Value == "" && f.Answer.Held == nil:
		return append(binary.AppendUvarint(append(b, formSynced), f.Seq), flag(f.Answer.Drain)), nil
	default:
		body, err := journal.Marshal(f)
		return append(append(b, formJSON), body...), err
	}
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (c *conn) receive() (*frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	most := maxFrame
	if n > maxWrite && n <= maxFrame { // it depends on the form
		form, err := c.r.Peek(1)
		if err != nil {
			return nil, err
		}
		most = mostOf(form[0])
	}
	if n > most {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", errMalformed, n, most)
	}
	body, err := c.body(n)
	if err != nil {
		return nil, err
	}
	f, err := readFrame(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return f, nil
}

// body reads n bytes, which are valid until the next call. It allocates as they arrive: a
// length alone costs no memory.
func (c *conn) body(n int) ([]byte, error) {
	if n <= keptBuffer {
		if cap(c.in) < n {
			c.in = make([]byte, n)
		}
		_, err := io.ReadFull(c.r, c.in[:n])
		return c.in[:n], err
	}
	var b bytes.Buffer
	_, err := io.CopyN(&b, c.r, int64(n))
	return b.Bytes(), err
}

// readFrame reads what append wrote. The frame does not share memory with b.
func readFrame(b []byte) (*frame, error) {
	if len(b) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	f := &frame{}
	if b[0] == formJSON {
		return f, json.Unmarshal(b[1:], f)
	}
	if b[0] == formPiece {
		if len(b) < 2 || len(b) > keptBuffer {
			return nil, io.ErrUnexpectedEOF
		}
		f.Piece = &piece{Last: b[1] != 0, Bytes: bytes.Clone(b[2:])}
		return f, nil
	}
	seq, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	f.Seq = seq
	switch rest := b[1+n:]; b[0] {
	case formWrite:
		var err error
		f.Write, err = readWriting(rest)
		return f, err
	case formSynced:
		if len(rest) != 1 {
			return nil, io.ErrUnexpectedEOF
		}
		f.Answer = &answer{Drain: rest[0] != 0}
		return f, nil
	default:
		return nil, fmt.Errorf("form %q", b[0])
	}
}

func readWriting(b []byte) (*writing, error) {
	lazy, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	var recs []journal.Record
	for b = b[n:]; len(b) > 0; {
		rec, rest, err := journal.Unpack(b)
		if err != nil {
			return nil, err
		}
		recs, b = append(recs, rec), rest
	}
	if lazy > uint64(len(recs)) {
		return nil, io.ErrUnexpectedEOF
	}
	return &writing{Lazy: recs[:lazy:lazy], Synced: recs[lazy:]}, nil
}
