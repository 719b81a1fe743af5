-- The runs that tell what a playbook is at, so that nobody has to look for them among
-- all that ever ran. A playbook that was forgotten has no row until it runs again.
CREATE TABLE playbooks (
  playbook TEXT NOT NULL PRIMARY KEY,
  last     TEXT,                      -- the newest run that has ended
  recorded TEXT                       -- the newest run that recorded anything
) STRICT, WITHOUT ROWID;

INSERT INTO playbooks (playbook, last, recorded)
SELECT playbook, max(CASE WHEN ended_at IS NOT NULL THEN id END), max(CASE WHEN EXISTS (SELECT 1 FROM records WHERE records.run = runs.id) THEN id END)
FROM runs
WHERE NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.run IS NULL AND decisions.what = 'forget' AND decisions.playbook = runs.playbook AND decisions.at >= runs.created_at)
GROUP BY playbook
