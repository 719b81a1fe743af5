package journal

import (
	"context"
	"strings"
	"testing"
)

// What is asked at each save, look or status reads no table that grows with the runs
// that ever were.
func TestNothingReadsTheWholeHistory(t *testing.T) {
	ctx := t.Context()
	j, err := Open(ctx, t.TempDir(), Options{})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	for name, query := range map[string]string{
		"last runs": lastRunsQuery, "current steps": currentStepsQuery, "newest records": newestRecordsQuery, "last records": lastRecordsQuery,
		"last sources": lastSourcesQuery, "unfinished": unfinishedQuery, "pending undos": pendingUndosQuery, "held": heldQuery, "locks": locksQuery,
		"a run": runQuery, "its steps": stepsQuery, "its effects": effectsQuery, "its undos": undosQuery, "its records": recordsQuery,
		"its hooks": hooksQuery, "its decisions": decidedQuery, "its log": logSizeQuery, "left before": leftQuery,
	} {
		if plan := plan(ctx, t, j, query); scans(plan) {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
	if text := plan(ctx, t, j, `SELECT max(id) FROM runs GROUP BY playbook`); !scans(text) {
		t.Errorf("a query that reads all runs is not recognized:\n%s", text)
	}
}

// plan returns how SQLite would answer a query, a line for each table.
func plan(ctx context.Context, t *testing.T, j *Journal, query string) string {
	t.Helper()
	var args []any
	for range strings.Count(query, "$") {
		args = append(args, "")
	}
	type row struct {
		id, parent, unused int
		detail             string
	}
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (row, error) {
		var r row
		err := scan(&r.id, &r.parent, &r.unused, &r.detail)
		return r, err
	}, "EXPLAIN QUERY PLAN "+query, args...)
	must(t, err)
	var out strings.Builder
	for _, r := range rows {
		out.WriteString(r.detail + "\n")
	}
	return out.String()
}

// scans reports whether a table is read from one end to the other that grows. Of what is
// unfinished, pending, forgotten, paused or locked there is little.
func scans(plan string) bool {
	for line := range strings.Lines(plan) {
		for _, table := range []string{"runs", "steps", "effects", "undos", "logs", "records", "hooks", "decisions"} {
			if strings.HasPrefix(line, "SCAN "+table) && !strings.Contains(line, "INDEX runs_unfinished") && !strings.Contains(line, "INDEX undos_pending") {
				return true
			}
		}
	}
	return false
}
