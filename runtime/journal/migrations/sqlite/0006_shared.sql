-- Large parts of JSON values, such as certificates, which many steps, effects and records
-- of many runs hold: each is stored once. Where a text holds one there is a byte 1, which
-- no JSON has, and its id. A process that writes uses no id again.
CREATE TABLE shared (
  id   INTEGER NOT NULL PRIMARY KEY,
  hash INTEGER NOT NULL,             -- the first 8 bytes of the SHA-256 of body
  body TEXT    NOT NULL
) STRICT;

CREATE INDEX shared_hash ON shared (hash);

-- A part goes with the last run that holds it.
CREATE TABLE shared_by (
  run    TEXT    NOT NULL REFERENCES runs (id),
  shared INTEGER NOT NULL REFERENCES shared (id),
  PRIMARY KEY (run, shared)
) STRICT, WITHOUT ROWID;

CREATE INDEX shared_by_shared ON shared_by (shared)
