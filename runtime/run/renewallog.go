package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/account"
	"moonseal/runtime/journal"
)

// maxEarly bounds the lines that wait for a host to be known.
const maxEarly = 200

// What the renewal.logs have is marked in the journal: a later process knows the hosts from
// its start, and repeats no decision.
const (
	hostMark    = "renewal.log of "
	decidedMark = "renewal.log decided "
)

// renewalLog writes the run's log, and what was decided about it, into the renewal.log of
// each host that the run works on. Lines from before the first host is known wait for it.
type renewalLog struct {
	account *account.Store
	marks   *marks
	log     *slog.Logger
	hosts   []string
	early   []earlyLine
	broken  bool // a renewal.log cannot be written, which was logged
}

// earlyLine waits for a host to be known.
type earlyLine struct {
	text string
	mark string // what is marked once it is written; ""
}

// host adds a host that the run works on.
func (l *renewalLog) host(name string) {
	if slices.Contains(l.hosts, name) {
		return
	}
	l.hosts = append(l.hosts, name)
	l.marks.lazy(hostMark + name)
	for _, line := range l.early {
		l.append(name, line.text)
		l.mark(line)
	}
	l.early = nil
}

// line writes a line of the run's log.
func (l *renewalLog) line(entry journal.Logged) {
	if entry.Level != "debug" {
		l.write(earlyLine{text: renewalLine(entry)})
	}
}

// decided writes what was decided about the run, each decision once.
func (l *renewalLog) decided(decisions []journal.Decided) {
	for _, d := range decisions {
		mark := fmt.Sprintf("%s%d", decidedMark, d.At.UnixNano())
		if entry, ok := d.Logged(); ok && !l.marks.has(mark) {
			l.write(earlyLine{renewalLine(entry), mark})
		}
	}
}

func (l *renewalLog) write(line earlyLine) {
	if len(l.hosts) == 0 {
		if len(l.early) < maxEarly {
			l.early = append(l.early, line)
		}
		return
	}
	for _, host := range l.hosts {
		l.append(host, line.text)
	}
	l.mark(line)
}

func (l *renewalLog) mark(line earlyLine) {
	if line.mark != "" {
		l.marks.lazy(line.mark)
	}
}

// append leaves an error to the journal, which has the line in any case.
func (l *renewalLog) append(host, line string) {
	if err := l.account.AppendLog(host, line); err != nil && !l.broken {
		l.broken = true
		l.log.Warn("renewal.log cannot be written", "host", host, "error", err.Error())
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
