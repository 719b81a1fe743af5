-- Fewer pages for each commit: a run's lines stand together, with no index beside them;
-- a shared part counts the runs that hold it, so that no index must find them; and an
-- effect has rowids, since without them a row of 500 bytes takes a page of its own.

-- seq counts the lines of its run; older ones keep theirs.
CREATE TABLE lines (
  run     TEXT    NOT NULL REFERENCES runs (id),
  seq     INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  level   TEXT    NOT NULL,
  step    TEXT    NOT NULL,
  message TEXT    NOT NULL,
  fields  TEXT,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO lines (run, seq, at, level, step, message, fields)
SELECT run, seq, at, level, step, message, fields FROM logs ORDER BY run, seq;

DROP TABLE logs;

ALTER TABLE lines RENAME TO logs;

ALTER TABLE shared ADD COLUMN holders INTEGER NOT NULL DEFAULT 0;

UPDATE shared SET holders = (SELECT count(*) FROM shared_by WHERE shared_by.shared = shared.id);

-- No foreign key on shared: each part that goes would be looked for in all rows.
CREATE TABLE holds (
  run    TEXT    NOT NULL REFERENCES runs (id),
  shared INTEGER NOT NULL,
  PRIMARY KEY (run, shared)
) STRICT, WITHOUT ROWID;

INSERT INTO holds (run, shared) SELECT run, shared FROM shared_by ORDER BY run, shared;

DROP TABLE shared_by;

ALTER TABLE holds RENAME TO shared_by;

CREATE TABLE calls (
  run       TEXT    NOT NULL,
  step      INTEGER NOT NULL,
  n         INTEGER NOT NULL,
  fn        TEXT    NOT NULL,
  args      TEXT,
  look      TEXT,
  progress  TEXT,
  state     TEXT    NOT NULL,
  result    TEXT,
  error     TEXT,
  marked_at INTEGER NOT NULL,
  ended_at  INTEGER,
  PRIMARY KEY (run, step, n),
  FOREIGN KEY (run, step) REFERENCES steps (run, step)
) STRICT;

INSERT INTO calls (run, step, n, fn, args, look, progress, state, result, error, marked_at, ended_at)
SELECT run, step, n, fn, args, look, progress, state, result, error, marked_at, ended_at FROM effects ORDER BY run, step, n;

DROP TABLE effects;

ALTER TABLE calls RENAME TO effects
