package queue

import "cmp"

// byTime is a heap of waiting jobs, the next to be due on top.
type byTime []*entry

func (h *byTime) Len() int { return len(*h) }

func (h *byTime) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) < 0
}

func (h *byTime) Swap(i, j int) {
	a, b := (*h)[i], (*h)[j]
	(*h)[i], (*h)[j] = b, a
	a.place, b.place = j, i
}

func (h *byTime) Push(v any) {
	e, _ := v.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}

func (h *byTime) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
