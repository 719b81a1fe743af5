package journal

import (
	"encoding/json"
	"fmt"
	"time"
)

// column is a sql.Scanner from a function.
type column func(any) error

// Scan implements sql.Scanner.
func (c column) Scan(v any) error { return c(v) }

// at reads an instant, UTC; NULL is the zero one.
func at(t *time.Time) column {
	return func(v any) error {
		switch n := v.(type) {
		case nil:
			*t = time.Time{}
		case int64:
			*t = time.Unix(0, n).UTC()
		default:
			return fmt.Errorf("%T is not an instant", v)
		}
		return nil
	}
}

func bytesOf(v any) ([]byte, error) {
	switch s := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(s), nil
	case []byte:
		return append([]byte(nil), s...), nil
	}
	return nil, fmt.Errorf("%T is not text", v)
}

// raw reads JSON as it was written; NULL is nil.
func raw(m *json.RawMessage) column {
	return func(v any) (err error) {
		*m, err = bytesOf(v)
		return err
	}
}

// word reads a text that may be NULL.
func word[T ~string](s *T) column {
	return func(v any) error {
		b, err := bytesOf(v)
		*s = T(b)
		return err
	}
}

// parsed reads JSON into what into points to; NULL leaves it zero.
func parsed[T any](into *T) column {
	return func(v any) error {
		b, err := bytesOf(v)
		if err != nil || b == nil {
			var zero T
			*into = zero
			return err
		}
		return json.Unmarshal(b, into)
	}
}
