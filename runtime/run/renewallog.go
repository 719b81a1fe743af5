package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/journal"
)

// maxEarly bounds the lines that wait for a host to be known.
const maxEarly = 200

// What the renewal.logs have is marked in the journal, as what happens once in the
// run's life: a later process knows the hosts from its begin, and repeats no decision.
const (
	hostMark    = "renewal.log of "
	decidedMark = "renewal.log decided "
)

// earlyLine waits for a host to be known.
type earlyLine struct {
	text string
	mark string // what is marked once it is written; ""
}

// logHost implements [bind.Call.LogHost].
func (r *Run) logHost(host string) {
	if slices.Contains(r.hosts, host) {
		return
	}
	r.hosts = append(r.hosts, host)
	r.once(hostMark + host)
	for _, line := range r.early {
		r.appendRenewalLog(host, line.text)
		r.once(line.mark)
	}
	r.early = nil
}

// marked returns what begins with prefix among what is marked.
func (r *Run) marked(prefix string) []string {
	var out []string
	for key := range r.hooks {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

// once marks what happens once. It leaves an error to the next record that is synced.
func (r *Run) once(key string) {
	if key == "" || r.hooks[key] {
		return
	}
	r.hooks[key] = true
	_ = r.lazy(context.Background(), journal.HookRan{Stamp: r.stamp(), Key: key})
}

// renewalLog writes a line of the run's log into the renewal.log of each host
// that it works on.
func (r *Run) renewalLog(l journal.Logged) {
	if l.Level != "debug" {
		r.toRenewalLog(earlyLine{text: renewalLine(l)})
	}
}

// decided writes what was decided about the run into the renewal.logs, each once.
func (r *Run) decided(decisions []journal.Decided) {
	for _, d := range decisions {
		mark := fmt.Sprintf("%s%d", decidedMark, d.At.UnixNano())
		if line, ok := d.Logged(); ok && !r.hooks[mark] {
			r.toRenewalLog(earlyLine{renewalLine(line), mark})
		}
	}
}

func (r *Run) toRenewalLog(line earlyLine) {
	if len(r.hosts) == 0 {
		if len(r.early) < maxEarly {
			r.early = append(r.early, line)
		}
		return
	}
	for _, host := range r.hosts {
		r.appendRenewalLog(host, line.text)
	}
	r.once(line.mark)
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
