package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"moonseal/runtime/journal"
)

// historyTimeout bounds how long a child may take to read its run's history: the journal
// keeps its pages for the reading until then.
const historyTimeout = time.Minute

// sendHistory sends the run's history, piece by piece as it is read, to the child that has
// loaded its scripts; that starts the run.
func (s *session) sendHistory(ctx context.Context, id string) error {
	// A cancel is sent to the child once it works.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), historyTimeout)
	defer cancel()
	end, _ := ctx.Deadline()
	if err := s.conn.rw.SetWriteDeadline(end); err != nil {
		return s.death()
	}
	var sent error
	send := func(p piece) error {
		sent = s.conn.send(&frame{Piece: &p})
		return sent
	}
	var out []byte
	err := s.parent.Journal.EachRow(ctx, id, func(row journal.Row) (err error) {
		switch r := row.(type) {
		case journal.Run:
			s.run, s.epoch = r.ID, r.Epoch
		case journal.LogSize:
			s.logs.used = r
		case journal.Undo:
			s.addUndoGrant(r)
			// The row of its effect has the same values.
			r.Look, r.Progress, r.Result = nil, nil, nil
			row = r
		}
		s.quota.Row(row)
		if out, err = journal.AppendRow(out, row); err != nil {
			return err
		}
		rest := out
		for ; len(rest) > maxPiece; rest = rest[maxPiece:] {
			if err := send(piece{Bytes: rest[:maxPiece]}); err != nil {
				return err
			}
		}
		out = append(out[:0], rest...)
		return nil
	})
	if err == nil {
		err = send(piece{Bytes: out, Last: true})
	}
	switch {
	case errors.Is(sent, os.ErrDeadlineExceeded):
		return s.kill(fmt.Sprintf("has not read its run's history within %s", historyTimeout))
	case sent != nil:
		return s.death()
	case err != nil:
		return err
	}
	return s.conn.rw.SetWriteDeadline(time.Time{})
}
