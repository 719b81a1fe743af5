package journal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"moonseal/runtime/problem"
)

// object is a table, index, view or trigger of a database.
type object struct{ kind, name string }

// schema returns the statements that created the objects of a database. Those that SQLite
// creates by itself have none.
func schema(ctx context.Context, db querier) (map[object]string, error) {
	rows, err := db.QueryContext(ctx, `SELECT type, name, coalesce(sql, '') FROM sqlite_schema`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[object]string{}
	for rows.Next() {
		var o object
		var text string
		if err := rows.Scan(&o.kind, &o.name, &text); err != nil {
			return nil, err
		}
		out[o] = text
	}
	return out, rows.Err()
}

// checkSchema refuses a database whose objects differ from those that the migrations up to
// its version create: a trigger would be executed by whatever process writes the journal.
func checkSchema(ctx context.Context, db querier, path string, steps []string) error {
	have, err := schema(ctx, db)
	if err != nil {
		return storeError(path, err)
	}
	expected, err := schemaOf(ctx, steps)
	if err != nil {
		return err
	}
	var odd []string
	for o, text := range have {
		if made, ok := expected[o]; !ok || made != text {
			odd = append(odd, fmt.Sprintf("%s %q", o.kind, o.name))
		}
	}
	for _, o := range slices.Collect(maps.Keys(expected)) {
		if _, ok := have[o]; !ok {
			odd = append(odd, fmt.Sprintf("no %s %q", o.kind, o.name))
		}
	}
	if len(odd) == 0 {
		return nil
	}
	slices.Sort(odd)
	return &problem.Error{
		Kind: problem.Usage, Target: path, Work: problem.NotDone,
		Message: fmt.Sprintf("not a copy of a journal as moonseal makes it: %s", strings.Join(odd, ", ")),
		Hint:    "restore a file that moonseal backup wrote, or that an upgrade left",
	}
}

// schemaOf returns the schema that migrations create.
func schemaOf(ctx context.Context, steps []string) (_ map[object]string, err error) {
	db, err := openDB("/schema", "memory", 1) // of this connection alone
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, storeError("/schema", err)
	}
	defer func() { _ = conn.Close() }()
	if err := migrate(ctx, conn, "/schema", 0, steps); err != nil {
		return nil, err
	}
	return schema(ctx, conn)
}
