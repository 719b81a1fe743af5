// Package schedule knows when: when a playbook is due (Schedule), when it may
// change anything (Window, Blackouts, Slot), and it tells the queue when a
// moment has come (Scheduler).
//
//	schedule = "17 3 * * *"                                          -- cron, this machine's time zone
//	schedule = { cron = "17 3 * * *", tz = "America/Chicago", jitter = "30m" }
//	schedule = { every = "6h", jitter = "10m" }
//	window   = "Sat,Sun 22:00-05:00 America/Chicago"                 -- or a list of such
//	blackouts: ["2026-12-20..2027-01-06", "Mon-Fri 08:00-18:00"]      # in the config
//
// Where clocks change, a time that does not exist counts as the instant of the
// change, and a time that comes twice counts once.
package schedule
