package worker

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"

	"moonseal/runtime/bundle"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// maxFrame bounds one frame, in bytes: a folder of scripts, or a long run's history.
const maxFrame = 64 << 20

// frame is one message. Exactly one of its parts is set, besides Seq.
type frame struct {
	Seq uint64 `json:"seq,omitempty"` // of a request that wants an answer, and of its answer

	// From the parent.
	Job    *Job          `json:"job,omitempty"`
	Start  *journalStart `json:"start,omitempty"`
	Answer *answer       `json:"answer,omitempty"`
	Cancel bool          `json:"cancel,omitempty"`

	// From the child.
	Write  *writing `json:"write,omitempty"`
	Secret string   `json:"secret,omitempty"` // asks for a secret's value
	Held   *heldBy  `json:"held,omitempty"`
	Loaded *Loaded  `json:"loaded,omitempty"`
	Result *Result  `json:"result,omitempty"`
}

// Job is what a child is to do.
type Job struct {
	Playbook string            `json:"playbook,omitempty"` // to run; "" only loads
	Files    map[string]string `json:"files,omitempty"`    // the scripts folder, for a load and a new run
	Problems []*problem.Error  `json:"problems,omitempty"` // of reading the folder
	Sources  map[string]string `json:"sources,omitempty"`  // the run's sources, for one that is taken up
	Settings map[string]string `json:"settings,omitempty"` // of modules, YAML by name
	Network  grant.Options     `json:"network"`            // the parent fills in what is allowed
	Grants   grant.Rules       `json:"grants,omitempty"`   // of all playbooks
	State    string            `json:"state"`              // the state folder
	Mode     run.Mode          `json:"mode,omitempty"`
	// When no appliance is changed, whatever the playbook's window; Now lifts both.
	Blackouts []string `json:"blackouts,omitempty"`
	Now       bool     `json:"now,omitempty"`
}

// Loaded tells what is in the scripts.
type Loaded struct {
	Playbooks []*bundle.Playbook `json:"playbooks"`
	Problems  []*problem.Error   `json:"problems,omitempty"`
	Secrets   []string           `json:"secrets,omitempty"` // names that the scripts name at the top, of a load
}

// journalStart begins the run in a child that has loaded it.
type journalStart struct {
	History *journal.History `json:"history"`
}

type answer struct {
	Drain bool              `json:"drain,omitempty"` // end at the next end of a step
	Error *problem.Error    `json:"error,omitempty"`
	Value string            `json:"value,omitempty"`
	Held  map[string]string `json:"held,omitempty"`
}

type writing struct {
	Lazy    bool              `json:"lazy,omitempty"`
	Records []json.RawMessage `json:"records"`
}

type heldBy struct {
	Values []string `json:"values"`
	Except string   `json:"except"`
}

// conn sends and receives frames. Sending is safe for concurrent use.
type conn struct {
	rw net.Conn
	r  *bufio.Reader // of rw
	mu sync.Mutex
}

func newConn(rw net.Conn) *conn { return &conn{rw: rw, r: bufio.NewReaderSize(rw, 16<<10)} }

func (c *conn) send(f *frame) error {
	body, err := json.Marshal(f) //nolint:gosec // secrets cross the pair, to a child that asked for them
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("a message of %d bytes between the run's processes, more than %d", len(body), maxFrame)
	}
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))) //nolint:gosec // maxFrame is below it
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.rw.Write(append(buf, body...))
	return err
}

func (c *conn) receive() (*frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes between the run's processes, more than %d", n, maxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, err
	}
	f := &frame{}
	if err := json.Unmarshal(body, f); err != nil {
		return nil, fmt.Errorf("a message between the run's processes that is none: %w", err)
	}
	return f, nil
}
