package journal

import (
	"context"
	"database/sql"
	"sync"
)

// statements are prepared once for all reads: to parse the queries of a history takes
// longer than to run them.
type statements struct {
	mu   sync.Mutex
	made map[string]*sql.Stmt
}

// prepare prepares queries, outside of any transaction: it needs a connection of its own.
func (s *statements) prepare(ctx context.Context, db *sql.DB, queries ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, query := range queries {
		if s.made[query] != nil {
			continue
		}
		stmt, err := db.PrepareContext(context.WithoutCancel(ctx), query)
		if err != nil {
			return err
		}
		if s.made == nil {
			s.made = map[string]*sql.Stmt{}
		}
		s.made[query] = stmt
	}
	return nil
}

func (s *statements) of(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[query]
}

// preparedTx is a transaction that uses what is prepared.
type preparedTx struct {
	*sql.Tx
	statements *statements
}

func (t preparedTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := t.statements.of(query); stmt != nil {
		return t.StmtContext(ctx, stmt).QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t preparedTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := t.statements.of(query); stmt != nil {
		return t.StmtContext(ctx, stmt).QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}
