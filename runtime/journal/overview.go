package journal

import (
	"context"
	"time"
)

// Overview is the state of a playbook in the journal at one moment.
type Overview struct {
	Last       *Run          // that ended last; nil: none has
	Unfinished *Run          // nil: there is none
	Step       string        // that the unfinished run is in, or was last
	StepSince  time.Time     // when that step's latest attempt began
	Records    []RecordedRow // of the newest run that recorded anything
}

// The planner, which knows no sizes, would read all runs, steps or records for these:
// CROSS JOIN and INDEXED BY keep it from that.
const (
	lastRunsQuery = `SELECT ` + runColumns + ` FROM runs WHERE id IN (SELECT last FROM playbooks)`

	currentStepsQuery = `SELECT steps.run, steps.name, steps.key, steps.attempt_at FROM runs INDEXED BY runs_unfinished CROSS JOIN steps ON steps.run = runs.id
		WHERE runs.ended_at IS NULL ORDER BY steps.run, steps.attempt_at, steps.step`

	newestRecordsQuery = `SELECT playbooks.playbook, records.run, records.seq, records.at, records.data
		FROM playbooks CROSS JOIN records ON records.run = playbooks.recorded ORDER BY records.run, records.seq`

	lastSourcesQuery = `SELECT sources.bundle FROM sources CROSS JOIN runs ON runs.id = (SELECT max(id) FROM runs WHERE runs.bundle = sources.bundle)
		WHERE sources.path = $1 ORDER BY runs.id DESC LIMIT 1`
)

// Overviews returns an overview of every playbook that has ever run and was not forgotten
// since, by name.
func (j *Journal) Overviews(ctx context.Context) (map[string]*Overview, error) {
	out := map[string]*Overview{}
	of := func(playbook string) *Overview {
		if out[playbook] == nil {
			out[playbook] = &Overview{}
		}
		return out[playbook]
	}
	// The unfinished ones first: a run that ends between the two queries is then seen twice,
	// not never.
	open, err := j.Unfinished(ctx, "")
	if err != nil {
		return nil, err
	}
	last, err := list(ctx, j, j.reads, scanRun, lastRunsQuery)
	if err != nil {
		return nil, err
	}
	for i := range last {
		of(last[i].Playbook).Last = &last[i]
	}
	byRun := map[string]*Overview{}
	for i := range open {
		o := of(open[i].Playbook)
		ended := o.Last != nil && o.Last.ID == open[i].ID
		if o.Unfinished == nil && !ended { // the oldest is the one that continues
			o.Unfinished = &open[i]
			byRun[open[i].ID] = o
		}
	}
	if err := j.currentSteps(ctx, byRun); err != nil {
		return nil, err
	}
	return out, j.newestRecords(ctx, of)
}

// currentSteps fills in the step that each unfinished run is in.
func (j *Journal) currentSteps(ctx context.Context, byRun map[string]*Overview) error {
	type row struct {
		run, name, key string
		at             time.Time
	}
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (row, error) {
		var r row
		err := scan(&r.run, &r.name, &r.key, at(&r.at))
		return r, err
	}, currentStepsQuery)
	for _, r := range rows {
		if o := byRun[r.run]; o != nil {
			o.Step, o.StepSince = r.name, r.at
			if r.key != "" {
				o.Step += "[" + r.key + "]"
			}
		}
	}
	return err
}

type playbookRecord struct {
	RecordedRow

	playbook string
}

func (j *Journal) newestRecords(ctx context.Context, of func(string) *Overview) error {
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (playbookRecord, error) {
		var r playbookRecord
		err := scan(&r.playbook, &r.Run, &r.Seq, at(&r.At), raw(&r.Data))
		return r, err
	}, newestRecordsQuery)
	for _, r := range rows {
		o := of(r.playbook)
		o.Records = append(o.Records, r.RecordedRow)
	}
	return err
}

// LastSources returns the sources of the newest run whose bundle has the script path in it;
// nil if there is none.
func (j *Journal) LastSources(ctx context.Context, path string) (map[string]string, error) {
	bundles, err := list(ctx, j, j.reads, func(scan func(...any) error) (string, error) {
		var hash string
		err := scan(&hash)
		return hash, err
	}, lastSourcesQuery, path)
	if err != nil || len(bundles) == 0 {
		return nil, err
	}
	sources, err := j.Sources(ctx, bundles[0])
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, s := range sources {
		out[s.Path] = string(s.Body)
	}
	return out, nil
}
