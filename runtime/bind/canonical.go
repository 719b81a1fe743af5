package bind

import (
	"bytes"
	"encoding/json"
)

// CanonicalCall returns a call that any version of moonseal has journaled as this one
// would journal it, with the keys of tables in order: two calls are the same if theirs
// is the same text.
func (r *Registry) CanonicalCall(full string, raw json.RawMessage) (json.RawMessage, error) {
	inv, err := r.DecodeCall(full, raw)
	if err != nil {
		return nil, err
	}
	if raw, err = r.EncodeCall(inv); err != nil {
		return nil, err
	}
	return ordered(raw)
}

// Canonical is [Registry.CanonicalCall] of plain data.
func (r *Registry) Canonical(raw json.RawMessage) (json.RawMessage, error) {
	v, err := r.Decode(raw)
	if err != nil {
		return nil, err
	}
	if raw, err = r.Encode(v); err != nil {
		return nil, err
	}
	return ordered(raw)
}

// ordered sorts the keys of JSON objects.
func ordered(raw json.RawMessage) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
