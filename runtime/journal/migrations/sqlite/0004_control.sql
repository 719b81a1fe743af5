-- What people decide, what is paused, since when schedules are as they are, and who
-- holds which lock: until here files beside the journal, or nowhere.

-- A lock belongs to one run from its first disruptive effect to its end.
CREATE TABLE locks (
  name     TEXT    NOT NULL PRIMARY KEY,
  run      TEXT    NOT NULL REFERENCES runs (id),
  taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX locks_run ON locks (run);

-- Decisions are never changed. run is NULL for one that is about no run.
CREATE TABLE decisions (
  seq      INTEGER NOT NULL PRIMARY KEY,
  at       INTEGER NOT NULL,
  what     TEXT    NOT NULL,
  run      TEXT    REFERENCES runs (id),
  playbook TEXT    NOT NULL,            -- '' for all
  by       TEXT    NOT NULL,
  ticket   TEXT    NOT NULL DEFAULT '',
  reason   TEXT    NOT NULL DEFAULT '',
  verdict  TEXT    NOT NULL DEFAULT ''  -- of resume: done, again, look
) STRICT;

CREATE INDEX decisions_run ON decisions (run, seq);

CREATE TABLE paused (
  playbook TEXT    NOT NULL PRIMARY KEY, -- '' for all
  since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
  playbook TEXT    NOT NULL PRIMARY KEY,
  schedule TEXT    NOT NULL,
  since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When the run was asked to end; NULL unless it was.
ALTER TABLE runs ADD COLUMN cancel_at INTEGER;

-- What a run that has ended may have left: a JSON array of sentences.
ALTER TABLE runs ADD COLUMN leftovers TEXT;

-- What the playbook was granted when the change was made: JSON; NULL is all.
ALTER TABLE undos ADD COLUMN granted TEXT;

-- Until here lock names were shared by all tenants. From now on a name is its tenant's.
UPDATE runs SET locks = (SELECT json_group_array(substr(runs.playbook, 1, instr(runs.playbook, '/')) || value) FROM json_each(runs.locks))
WHERE ended_at IS NULL AND locks IS NOT NULL AND instr(playbook, '/') > 0;

-- Who has changed an appliance already holds its locks; the oldest where it is two.
INSERT INTO locks (name, run, taken_at)
SELECT name, min(run), taken_at -- of the run that min found
FROM (
  SELECT l.value AS name, runs.id AS run, min(effects.marked_at) AS taken_at
  FROM runs JOIN json_each(runs.locks) AS l JOIN effects ON effects.run = runs.id
  WHERE runs.ended_at IS NULL AND runs.locks IS NOT NULL AND effects.fn IN ('cucm.Node:upload', 'cucm.Node:restart') AND effects.state <> 'not_done'
  GROUP BY l.value, runs.id
)
GROUP BY name
