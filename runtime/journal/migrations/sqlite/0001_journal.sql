-- Instants are nanoseconds since 1970 (UTC), durations nanoseconds, both NULL
-- where there is none. Errors, arguments, results and fields are JSON.

CREATE TABLE bundles (
  hash       TEXT    NOT NULL PRIMARY KEY,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sources (
  bundle TEXT NOT NULL REFERENCES bundles (hash),
  path   TEXT NOT NULL,
  body   BLOB NOT NULL,
  PRIMARY KEY (bundle, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id            TEXT    NOT NULL PRIMARY KEY,
  playbook      TEXT    NOT NULL,
  bundle        TEXT    NOT NULL REFERENCES bundles (hash),
  status        TEXT    NOT NULL,
  epoch         INTEGER NOT NULL,
  force         INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  started_at    INTEGER,
  updated_at    INTEGER NOT NULL,
  ended_at      INTEGER,
  outcome       TEXT,
  reason        TEXT    NOT NULL DEFAULT '',
  error         TEXT,
  wait_for      TEXT    NOT NULL DEFAULT '',
  wake_at       INTEGER,
  failures      INTEGER NOT NULL DEFAULT 0, -- waits of the whole run since a step last got done
  failing_since INTEGER,
  deaths        INTEGER NOT NULL DEFAULT 0, -- of its process
  worked        INTEGER NOT NULL DEFAULT 0, -- without the waits, up to resumed_at
  resumed_at    INTEGER                     -- NULL while it waits
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_playbook   ON runs (playbook, id);
CREATE INDEX runs_unfinished ON runs (playbook, id) WHERE ended_at IS NULL;

CREATE TABLE steps (
  run        TEXT    NOT NULL REFERENCES runs (id),
  step       INTEGER NOT NULL,
  kind       TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  key        TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  attempt    INTEGER NOT NULL,
  deaths     INTEGER NOT NULL DEFAULT 0,
  started_at INTEGER NOT NULL,
  attempt_at INTEGER NOT NULL,
  ended_at   INTEGER,
  deadline   INTEGER,
  next_at    INTEGER,
  result     TEXT,
  error      TEXT,
  PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE effects (
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
) STRICT, WITHOUT ROWID;

-- An undo that a script added by itself belongs to a step, not to an effect.
CREATE TABLE undos (
  run      TEXT    NOT NULL REFERENCES runs (id),
  n        INTEGER NOT NULL,
  step     INTEGER NOT NULL,
  effect   INTEGER,
  fn       TEXT    NOT NULL,
  args     TEXT,
  holds    TEXT,
  state    TEXT    NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_at  INTEGER,
  error    TEXT,
  added_at INTEGER NOT NULL,
  ended_at INTEGER,
  PRIMARY KEY (run, n),
  FOREIGN KEY (run, step, effect) REFERENCES effects (run, step, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX undos_pending ON undos (run, n) WHERE state = 'pending';

CREATE TABLE logs (
  seq     INTEGER NOT NULL PRIMARY KEY,
  run     TEXT    NOT NULL REFERENCES runs (id),
  at      INTEGER NOT NULL,
  level   TEXT    NOT NULL,
  step    TEXT    NOT NULL,
  message TEXT    NOT NULL,
  fields  TEXT
) STRICT;

CREATE INDEX logs_run ON logs (run, seq);

CREATE TABLE records (
  run  TEXT    NOT NULL REFERENCES runs (id),
  seq  INTEGER NOT NULL,
  at   INTEGER NOT NULL,
  data TEXT    NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE hooks (
  run TEXT    NOT NULL REFERENCES runs (id),
  key TEXT    NOT NULL,
  at  INTEGER NOT NULL,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;
