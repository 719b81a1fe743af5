package schedule

import "container/heap"

// entries is a heap of entries by when each must be checked; those that never must are
// last.
type entries []*entry

var _ heap.Interface = (*entries)(nil)

// Len implements heap.Interface.
func (h *entries) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *entries) Less(i, j int) bool {
	a, b := (*h)[i].wake(), (*h)[j].wake()
	if a.IsZero() || b.IsZero() {
		return !a.IsZero()
	}
	return a.Before(b)
}

// Swap implements heap.Interface.
func (h *entries) Swap(i, j int) {
	(*h)[i], (*h)[j] = (*h)[j], (*h)[i]
	(*h)[i].place, (*h)[j].place = i, j
}

// Push implements heap.Interface.
func (h *entries) Push(x any) {
	e, _ := x.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *entries) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
