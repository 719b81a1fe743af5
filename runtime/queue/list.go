package queue

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

func (m *memory) Has(run string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index.byRun[run] != nil
}

func (m *memory) Free(ctx context.Context, job Job) (mine bool, err error) {
	for {
		m.mu.Lock()
		e, isClosed, changed := m.index.byPlaybook[job.Playbook], m.closed, m.nextChange()
		m.mu.Unlock()
		switch {
		case e == nil || e.job.Run == job.Run:
			return e != nil, nil
		case isClosed:
			return false, closed()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (m *memory) Waiting() []Waiting {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ripen()
	x := m.index
	all := make([]Waiting, 0, len(x.due)+len(x.waiting))
	for e, lock := range x.candidates(m.holders) {
		all = append(all, e.waits(lock))
	}
	later := slices.Clone(x.waiting)
	slices.SortFunc(later, func(a, b *entry) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) })
	for _, e := range later {
		all = append(all, e.waits(""))
	}
	return all
}

func (e *entry) waits(lock string) Waiting {
	return Waiting{Job: e.job, At: e.at, Lock: lock, Tries: e.tries}
}

func (m *memory) Running() []Running {
	m.mu.Lock()
	defer m.mu.Unlock()
	active := slices.SortedFunc(maps.Keys(m.index.active), func(a, b *entry) int {
		return cmp.Or(a.call.since.Compare(b.call.since), cmp.Compare(a.seq, b.seq))
	})
	all := make([]Running, 0, len(active))
	for _, e := range active {
		all = append(all, Running{Job: e.job, Since: e.call.since})
	}
	return all
}
