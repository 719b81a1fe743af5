package schedule

import (
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"time"
)

// share returns a duration from zero to less than width that is always the same for this
// name and slot.
func (p planner) share(name string, slot time.Time, width time.Duration) time.Duration {
	if width <= 0 {
		return 0
	}
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], p.seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(slot.Unix())) //nolint:gosec // only its bits count
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(name))
	part, _ := bits.Mul64(mix(h.Sum64()), uint64(width))
	return time.Duration(part).Truncate(time.Millisecond) //nolint:gosec // less than width
}

// mix spreads the low bits of FNV over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
