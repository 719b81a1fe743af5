package journal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// A run's id has ten characters of Crockford's base32: 41 bits of milliseconds
// since 2025 (enough until 2094), then 9 random ones. They sort by age, and one
// can be read out and typed.
const (
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	idLength   = 10
	idRandom   = 9
	idMost     = 1<<(5*idLength) - 1
)

// NewRunID returns an id that is larger than every one in the journal and every one
// returned before, whatever the clock does.
func (j *Journal) NewRunID() string {
	var b [2]byte
	if _, err := io.ReadFull(j.rand, b[:]); err != nil {
		_, _ = rand.Read(b[:]) // never fails
	}
	begin := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	ms := max(j.clock.Now().Sub(begin).Milliseconds(), 0)
	id := uint64(ms)<<idRandom | uint64(binary.BigEndian.Uint16(b[:]))&(1<<idRandom-1)
	j.idMu.Lock()
	defer j.idMu.Unlock()
	if id <= j.lastID {
		id = j.lastID + 1
	}
	j.lastID = id
	return formatID(id)
}

func formatID(id uint64) string {
	var out [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		out[i] = idAlphabet[id&31]
		id >>= 5
	}
	return string(out[:])
}

// ParseRunID returns a typed id in its canonical form: lower case, with 0 for o and 1 for i
// and l.
func ParseRunID(s string) (string, error) {
	id := strings.NewReplacer("o", "0", "i", "1", "l", "1").Replace(strings.ToLower(strings.TrimSpace(s)))
	if len(id) != idLength || strings.Trim(id, idAlphabet) != "" {
		return "", &problem.Error{
			Kind: problem.Usage, Message: fmt.Sprintf("%q is not a valid run id", s), Work: problem.NotDone,
			Hint: "a run's id has 10 letters and digits; `moonseal runs` lists them",
		}
	}
	return id, nil
}

func idNumber(id string) uint64 {
	var n uint64
	for i := range len(id) {
		n = n<<5 | uint64(max(strings.IndexByte(idAlphabet, id[i]), 0))
	}
	return n & idMost
}
