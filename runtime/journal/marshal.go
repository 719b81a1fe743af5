package journal

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal without its escapes for HTML, which would rewrite &, < and >
// in raw JSON too: the next process must read what was journaled byte by byte.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes()[:b.Len()-1], nil // without the line break
}
