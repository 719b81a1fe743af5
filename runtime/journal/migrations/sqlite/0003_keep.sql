-- What was removed because it was old: what ended before that instant is not all there.
CREATE TABLE removed (
  what   TEXT    NOT NULL PRIMARY KEY, -- runs, logs
  before INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- So that a bundle that no run needs is found, and removed, without reading all runs.
CREATE INDEX runs_bundle ON runs (bundle)
