package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// A certificate comes back in the results, arguments and records of a run, and in those of
// every run after it. Parts of a value that are this large, in bytes, are stored once.
const (
	sharedText  = 256 // a string
	sharedValue = 256 // an object or array, in which smaller parts are replaced already
	sharedDepth = 8   // of parts within parts
)

// sharedMark precedes the id that replaces a part.
const sharedMark = 1

// split returns a JSON value with its large parts replaced by what put returns for them;
// all of it may be one if whole is set.
func split(raw []byte, whole bool, put func(body []byte) (id int64, err error)) ([]byte, error) {
	if len(raw) < sharedText {
		return raw, nil
	}
	if bytes.IndexByte(raw, sharedMark) >= 0 {
		return nil, misuse("a value that is not JSON")
	}
	s := splitter{in: raw, out: make([]byte, 0, len(raw)), put: put, whole: whole}
	if _, err := s.value(); err != nil {
		return nil, err
	}
	return append(s.out, s.in[s.at:]...), nil
}

type splitter struct {
	in  []byte
	at  int
	out []byte
	put func([]byte) (int64, error)

	whole  bool
	within int // arrays and objects
}

// value copies the value that comes next, and returns how deep parts lie in it.
func (s *splitter) value() (depth int, err error) {
	s.copyUntil(func(c byte) bool { return c > ' ' && c != ',' && c != ':' })
	if s.at == len(s.in) {
		return 0, nil
	}
	begin := len(s.out)
	switch c := s.in[s.at]; c {
	case '"':
		s.text()
		return s.replace(begin, sharedText, 0)
	case '{', '[':
		s.copy(1)
		s.within++
		for {
			s.copyUntil(func(c byte) bool { return c > ' ' && c != ',' && c != ':' })
			if s.at == len(s.in) {
				return depth, nil
			}
			if c := s.in[s.at]; c == '}' || c == ']' {
				s.copy(1)
				s.within--
				return s.replace(begin, sharedValue, depth)
			}
			inner, err := s.value()
			if err != nil {
				return 0, err
			}
			depth = max(depth, inner)
		}
	default:
		s.copy(1)
		s.copyUntil(func(c byte) bool { return c <= ' ' || c == ',' || c == ':' || c == '}' || c == ']' })
		return 0, nil
	}
}

func (s *splitter) copy(n int) {
	s.out = append(s.out, s.in[s.at:s.at+n]...)
	s.at += n
}

func (s *splitter) copyUntil(end func(byte) bool) {
	n := 0
	for s.at+n < len(s.in) && !end(s.in[s.at+n]) {
		n++
	}
	s.copy(n)
}

func (s *splitter) text() {
	n := 1
	for s.at+n < len(s.in) && s.in[s.at+n] != '"' {
		if s.in[s.at+n] == '\\' {
			n++
		}
		n++
	}
	s.copy(min(n+1, len(s.in)-s.at))
}

// replace replaces what was copied since begin, if it is large enough.
func (s *splitter) replace(begin, least, depth int) (int, error) {
	if len(s.out)-begin < least || depth == sharedDepth || s.within == 0 && !s.whole {
		return depth, nil
	}
	id, err := s.put(s.out[begin:])
	if err != nil {
		return 0, err
	}
	s.out = strconv.AppendInt(append(s.out[:begin], sharedMark), id, 10)
	return depth + 1, nil
}

// join returns the value that split was called with.
func join(text []byte, get func(id int64) ([]byte, error)) ([]byte, error) {
	if bytes.IndexByte(text, sharedMark) < 0 {
		return text, nil
	}
	out, err := appendJoined(nil, text, get, 0)
	return out, err
}

func appendJoined(out, text []byte, get func(id int64) ([]byte, error), depth int) ([]byte, error) {
	if depth > sharedDepth {
		return nil, errors.New("shared values that hold each other")
	}
	for {
		i := bytes.IndexByte(text, sharedMark)
		if i < 0 {
			return append(out, text...), nil
		}
		out = append(out, text[:i]...)
		text = text[i+1:]
		n := 0
		for n < len(text) && '0' <= text[n] && text[n] <= '9' {
			n++
		}
		id, err := strconv.ParseInt(string(text[:n]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("not the id of a shared value: %q", text[:n])
		}
		body, err := get(id)
		if err != nil {
			return nil, err
		}
		if out, err = appendJoined(out, body, get, depth+1); err != nil {
			return nil, err
		}
		text = text[n:]
	}
}

// mostShared is how many parts are remembered, by a writer and by a reader.
const mostShared = 1024

// shared returns a JSON value of a run as a column holds it; NULL if there is none.
func (w *conn) shared(run string, raw json.RawMessage) (any, error) {
	return w.split(run, raw, false)
}

// sharedResult is as shared, for what a call returned: a step often returns it too.
func (w *conn) sharedResult(run string, raw json.RawMessage) (any, error) {
	return w.split(run, raw, true)
}

func (w *conn) split(run string, raw json.RawMessage, whole bool) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	out, err := split(raw, whole, func(body []byte) (int64, error) { return w.share(run, body) })
	return string(out), err
}

// share stores a part of a run's value, unless it is stored already.
func (w *conn) share(run string, body []byte) (id int64, err error) {
	hash := sha256.Sum256(body)
	id, known := w.parts[hash]
	if !known {
		if id, err = w.findOrStore(hash, body); err != nil {
			return 0, err
		}
		if len(w.parts) >= mostShared {
			clear(w.parts)
		}
		w.parts[hash] = id
	}
	k, err := w.remember(run)
	if err != nil || k.parts[id] {
		return id, err
	}
	fresh, err := w.exec(`INSERT INTO shared_by (run, shared) VALUES ($1, $2) ON CONFLICT DO NOTHING`, run, id)
	if err == nil && fresh == 1 {
		_, err = w.exec(`UPDATE shared SET holders = holders + 1 WHERE id = $1`, id)
	}
	if err != nil {
		return 0, err
	}
	if k.parts == nil {
		k.parts = map[int64]bool{}
	}
	k.parts[id] = true
	return id, nil
}

func (w *conn) findOrStore(hash [sha256.Size]byte, body []byte) (id int64, err error) {
	short := int64(binary.BigEndian.Uint64(hash[:])) //nolint:gosec // all 64 bits
	err = w.row(`SELECT id FROM shared WHERE hash = $1 AND body = $2`, short, string(body)).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if *w.last == 0 {
		if err := w.row(`SELECT coalesce(max(id), 0) FROM shared`).Scan(w.last); err != nil {
			return 0, err
		}
	}
	*w.last++ // never back: readers remember parts by their ids
	_, err = w.exec(`INSERT INTO shared (id, hash, body) VALUES ($1, $2, $3)`, *w.last, short, string(body))
	return *w.last, err
}

// unshare removes what only this run holds of the shared parts.
func (w *conn) unshare(run string) error {
	n, err := w.exec(`UPDATE shared SET holders = holders - 1 WHERE id IN (SELECT shared FROM shared_by WHERE run = $1)`, run)
	if err != nil || n == 0 {
		return err
	}
	for _, q := range []string{
		`DELETE FROM shared WHERE holders = 0 AND id IN (SELECT shared FROM shared_by WHERE run = $1)`,
		`DELETE FROM shared_by WHERE run = $1`,
	} {
		if _, err := w.exec(q, run); err != nil {
			return err
		}
	}
	clear(w.parts)
	return nil
}

// partCache caches shared values, which never change.
type partCache struct {
	mu    sync.Mutex
	known map[int64][]byte
	size  int
}

// mostPartBytes is how many bytes are remembered.
const mostPartBytes = 4 << 20

const partQuery = `SELECT body FROM shared WHERE id = $1`

func (p *partCache) get(ctx context.Context, db querier, id int64) ([]byte, error) {
	p.mu.Lock()
	body, known := p.known[id]
	p.mu.Unlock()
	if known {
		return body, nil
	}
	if err := db.QueryRowContext(ctx, partQuery, id).Scan(&body); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("shared value %d is missing", id)
		}
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size += len(body); p.known == nil || p.size > mostPartBytes || len(p.known) >= mostShared {
		p.known, p.size = map[int64][]byte{}, len(body)
	}
	p.known[id] = body
	return body, nil
}

// values returns the values of a row that may have shared parts.
func values(row any) []*json.RawMessage {
	switch r := row.(type) {
	case *Step:
		return []*json.RawMessage{&r.Result}
	case *Effect:
		return []*json.RawMessage{&r.Args, &r.Look, &r.Progress, &r.Result}
	case *Undo:
		return []*json.RawMessage{&r.Args, &r.Look, &r.Progress, &r.Result}
	case *RecordedRow:
		return []*json.RawMessage{&r.Data}
	case *playbookRecord:
		return []*json.RawMessage{&r.Data}
	default:
		return nil
	}
}

// whole replaces the ids of shared parts in a row by the parts.
func (j *Journal) whole(ctx context.Context, db querier, row any) error {
	for _, value := range values(row) {
		out, err := join(*value, func(id int64) ([]byte, error) { return j.parts.get(ctx, db, id) })
		if err != nil {
			return storeError(j.path, err)
		}
		*value = out
	}
	return nil
}
