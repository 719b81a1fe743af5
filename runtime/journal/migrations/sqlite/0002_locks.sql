-- The names of the locks that a run needs (JSON), NULL for none: its bundle's, so
-- that whoever queues it anew needs no script for it.
ALTER TABLE runs ADD COLUMN locks TEXT
