// Package schedule computes when a playbook is due (Schedule) and when it may change
// anything (Window, Blackouts, Slot), and enqueues the runs that are due (Scheduler).
//
//	schedule = "17 3 * * *"                                          -- cron, this machine's time zone
//	schedule = { cron = "17 3 * * *", tz = "America/Chicago", jitter = "30m" }
//	schedule = { every = "6h", jitter = "10m" }
//	window   = "Sat,Sun 22:00-05:00 America/Chicago"                 -- or a list of such
//	blackouts: ["2026-12-20..2027-01-06", "Mon-Fri 08:00-18:00"]      # in the config
//
// When clocks change, a time that does not exist counts as the instant of the change, and
// a time that occurs twice counts once.
package schedule
