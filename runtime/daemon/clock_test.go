package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

const year = 365 * 24 * time.Hour

// The clock is wrong by a year, and then right again. A run that waits for a decision
// keeps waiting, through a restart in the wrong time too; an alert for a certificate that
// seems to end is sent, and that it is over; and alerts are not repeated all the time.
func TestClockJumpsAreSeenThrough(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": year, "back": -year} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noon)
			h.cfg.Alerts.Expiring = config.Duration(14 * 24 * time.Hour)
			var mu sync.Mutex
			var sent []string
			alerts := func(words ...string) (n int) {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range sent {
					if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(m, w) }) {
						n++
					}
				}
				return n
			}
			h.send = func(_ context.Context, title, message string) error {
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, title+": "+message)
				return nil
			}
			h.script("asks", script{Does: "approve"})
			h.script("renewed", script{Schedule: "30 14 * * *"}) // when both alerts have surely been sent
			h.start()
			h.recorded("renewed", noon.Add(60*24*time.Hour))
			asks := h.startRun("asks")
			h.status(asks, journal.Waiting)
			h.drifts(time.Hour, func() bool { return alerts("asks waits for approval") == 1 })

			h.clock.set(by)
			h.drifts(time.Hour, func() bool {
				return by < 0 || alerts("[ACT] renewed, x: expired", "renewed: the certificate of x ends on") == 1
			})
			h.restart()
			h.drifts(3*time.Hour, func() bool { return h.ran("renewed") })
			before := len(h.runs())
			h.clock.set(-by)
			h.drifts(time.Hour, func() bool {
				return by < 0 || alerts("[OVER] renewed, x: expired", "x serves a certificate, until") == 1
			})
			h.drifts(26*time.Hour, func() bool { return len(h.runs()) > before })

			if r := h.run(asks); r.Status != journal.Waiting {
				t.Errorf("the run that waits for approval is %s: %v", r.Status, r.Error)
			}
			if by < 0 && alerts("the certificate of x ends on") > 0 {
				t.Error("a certificate seems to end while it is a year earlier")
			}
			// Once, once for each time the clock was set, and daily.
			if n := alerts("asks waits for approval"); n > 6 {
				t.Errorf("%d alerts that an approval is waited for", n)
			}
			h.check(failed(h.daemon.Approve(t.Context(), asks, "alice", api.Decision{})))
			h.status(asks, journal.Done)
			s, err := h.daemon.Status(t.Context())
			h.check(err)
			for _, p := range s.Playbooks {
				if at := p.NextRun; p.Name == "renewed" && (at == nil || at.Sub(h.clock.Now()).Abs() > 25*time.Hour) {
					t.Errorf("it is %s, and the next run is to be at %v", h.clock.Now(), at)
				}
			}
			h.sound()
		})
	}
}

// recorded puts a certificate of the playbook on record.
func (h *house) recorded(playbook string, ends time.Time) {
	h.t.Helper()
	id := h.daemon.journal.NewRunID()
	stamp := journal.Stamp{Run: id, Epoch: 1, At: h.clock.Now().UTC()}
	h.check(h.daemon.journal.SaveBundle(h.t.Context(), "h", nil))
	data := fmt.Sprintf(`{"subject":"x","served":{"sha256":"y","not_after":%d}}`, ends.Unix())
	h.check(h.daemon.journal.Write(h.t.Context(), journal.RunCreated{Stamp: stamp, Playbook: playbook, Bundle: "h"},
		journal.Recorded{Stamp: stamp, Data: json.RawMessage(data)}, journal.RunEnded{Stamp: stamp, Outcome: journal.Done}))
}

// ran reports whether a run of the playbook is done that was executed.
func (h *house) ran(playbook string) bool {
	return slices.ContainsFunc(h.runs(), func(r journal.Run) bool {
		return r.Playbook == playbook && r.Status == journal.Done && !r.Started.IsZero()
	})
}

// The clock was ten minutes ahead when a run started to wait: it is resumed as soon as the
// clock is right, to compute again how long it waits.
func TestRunResumesWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("waits", script{Does: "wait"})
	h.start()
	h.clock.set(10 * time.Minute)
	id := h.startRun("waits")
	h.status(id, journal.Waiting)
	h.clock.set(-10 * time.Minute)
	h.drifts(5*time.Minute, func() bool { return h.run(id).Status == journal.Done })
	h.sound()
}
