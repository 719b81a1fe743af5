package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/journal"
)

// maxEarly bounds the lines that wait for a host to be known.
const maxEarly = 200

// concerns implements [bind.Call.Concerns].
func (r *Run) concerns(host string) {
	if slices.Contains(r.hosts, host) {
		return
	}
	r.hosts = append(r.hosts, host)
	for _, line := range r.early {
		r.appendRenewalLog(host, renewalLine(line))
	}
	if len(r.hosts) == 1 {
		r.early = nil
	}
}

// renewalLog writes a line of the run's log into the renewal.log of each host
// that it works on.
func (r *Run) renewalLog(l journal.Logged) {
	if l.Level == "debug" {
		return
	}
	if len(r.hosts) == 0 {
		if len(r.early) < maxEarly {
			r.early = append(r.early, l)
		}
		return
	}
	line := renewalLine(l)
	for _, host := range r.hosts {
		r.appendRenewalLog(host, line)
	}
}

// appendRenewalLog leaves an error to the journal, which has the line in any case.
func (r *Run) appendRenewalLog(host, line string) {
	if err := r.opt.Account.AppendLog(host, line); err != nil && !r.logBroken {
		r.logBroken = true
		r.logger.Warn("renewal.log cannot be written", "host", host, "error", err.Error())
	}
}

func renewalLine(l journal.Logged) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-5s run=%s", l.At.UTC().Format(time.RFC3339), l.Level, l.Run)
	if l.Step != "" {
		b.WriteString(" step=" + l.Step)
	}
	b.WriteString(" " + l.Message)
	dec := json.NewDecoder(bytes.NewReader(l.Fields))
	if _, err := dec.Token(); err != nil {
		return b.String()
	}
	for dec.More() {
		key, err := dec.Token()
		var value any
		if err != nil || dec.Decode(&value) != nil {
			break
		}
		if key != EventKey {
			fmt.Fprintf(&b, " %v=%v", key, value)
		}
	}
	return b.String()
}
