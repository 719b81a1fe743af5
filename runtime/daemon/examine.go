package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/worker"
)

// Examiner examines what handles refer to, in a process of its own.
type Examiner interface {
	Load(ctx context.Context, job worker.Job) (*worker.Loaded, error)
	Examine(ctx context.Context, job worker.Job) ([]bind.Finding, error)
}

const (
	// examinedAtOnce is how many playbooks are examined at the same time.
	examinedAtOnce = 4
	// recentRuns is how many runs of a playbook are searched for what it names.
	recentRuns = 20
)

// Examine examines all that the playbooks in files name: nodes, zones, CAs. It changes
// nothing, and examines once what several name. What a script names only in its run
// function is read from what its runs have journaled; records may be nil if there is no
// journal.
func Examine(ctx context.Context, e Examiner, job worker.Job, files map[string]string, records api.Records) ([]bind.Finding, error) {
	job.Files, job.Handles = files, true
	loaded, err := e.Load(ctx, job)
	if err != nil {
		return nil, err
	}
	if silent := silentFiles(loaded); len(silent) > 0 && records != nil {
		if job.Journaled, err = journaled(ctx, loaded.Playbooks, silent, records); err != nil {
			return nil, err
		}
		if loaded, err = e.Load(ctx, job); err != nil {
			return nil, err
		}
	}
	return examineAll(ctx, e, job, loaded)
}

// silentFiles returns the scripts that made no handles.
func silentFiles(l *worker.Loaded) map[string]bool {
	silent := map[string]bool{}
	for _, p := range l.Playbooks {
		silent[p.File] = true
	}
	for _, m := range l.Made {
		delete(silent, m.File)
	}
	return silent
}

// journaled returns the handles of the latest run of each script's playbooks that
// journaled any.
func journaled(ctx context.Context, books []*bundle.Playbook, files map[string]bool, records api.Records) (map[string][]json.RawMessage, error) {
	out := map[string][]json.RawMessage{}
	for _, p := range books {
		if !files[p.File] {
			continue
		}
		runs, err := records.Runs(ctx, journal.Filter{Playbook: p.Name, Limit: recentRuns})
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			h, err := records.History(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			if handles := worker.Handles(h); len(handles) > 0 {
				out[p.File] = append(out[p.File], handles...)
				break
			}
		}
	}
	return out, nil
}

// examineAll examines each script's handles in a child, without those of its tenant's
// scripts before it.
func examineAll(ctx context.Context, e Examiner, job worker.Job, loaded *worker.Loaded) ([]bind.Finding, error) {
	books := slices.Clone(loaded.Playbooks)
	slices.SortStableFunc(books, func(a, b *bundle.Playbook) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Name, b.Name))
	})
	books = slices.CompactFunc(books, func(a, b *bundle.Playbook) bool { return a.File == b.File })
	seen := map[string]bool{} // by tenant: each has pins, secrets and grants of its own
	results := make([][]bind.Finding, len(books))
	slots := make(chan struct{}, examinedAtOnce)
	var examining sync.WaitGroup
	for i, p := range books {
		its, named := job, false
		its.Files, its.Journaled, its.Playbook, its.Examine = nil, nil, p.Name, &worker.Examination{}
		for _, m := range loaded.Made {
			if m.File != p.File {
				continue
			}
			named = true
			its.Examine.Names = append(its.Examine.Names, m.Names...)
			if key := p.Tenant() + "\x00" + m.Key; !seen[key] {
				seen[key] = true
				its.Examine.Handles = append(its.Examine.Handles, m.Data)
			}
		}
		switch {
		case !named:
			results[i] = []bind.Finding{{
				What: "playbook " + p.Name, Note: "it names nothing at its top, and no run of it has changed anything yet: what it reaches was not examined",
			}}
		case len(its.Examine.Handles) > 0:
			examining.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				results[i] = examine(ctx, e, its)
				for n := range results[i] {
					results[i][n].Tenant = p.Tenant()
				}
			})
		}
	}
	examining.Wait()
	return slices.Concat(results...), ctx.Err()
}

func examine(ctx context.Context, e Examiner, job worker.Job) []bind.Finding {
	found, err := e.Examine(ctx, job)
	if err != nil {
		return []bind.Finding{{What: "playbook " + job.Playbook, Error: problem.From(err)}}
	}
	return found
}

// Examine implements [api.Daemon].
func (d *Daemon) Examine(ctx context.Context) ([]bind.Finding, error) {
	s := d.settings.now()
	e, ok := s.Executor.(Examiner)
	if !ok {
		return []bind.Finding{}, nil
	}
	return Examine(ctx, e, s.Job, d.liveFiles(), d.journal)
}

// liveFiles returns the sources of all live playbooks.
func (d *Daemon) liveFiles() map[string]string {
	files := map[string]string{}
	for _, p := range d.reload.Current().Playbooks {
		for _, source := range p.Sources {
			files[source.Path] = source.Text
		}
	}
	return files
}

// SecretNames implements [api.Daemon].
func (d *Daemon) SecretNames(ctx context.Context) ([]string, error) {
	s := d.settings.now()
	job := s.Job
	job.Files = d.liveFiles()
	loaded, err := s.Executor.Load(ctx, job)
	if err != nil {
		return nil, err
	}
	names := append(s.cfg.SecretNames(), loaded.Secrets...)
	slices.Sort(names)
	return slices.Compact(names), nil
}
