package alert

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/api"
	"moonseal/runtime/atomicfile"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// Send sends one message to all services.
type Send func(ctx context.Context, title, message string) error

// repeat is how often the alert of a trouble that lasts is repeated.
const repeat = 24 * time.Hour

// Alerter sends alerts and records which were sent. It is for one goroutine.
type Alerter struct {
	path  string
	send  Send
	clock clockwork.Clock
	log   *slog.Logger
	open  map[string]sent // by key of the problem
}

// sent is an alert that was sent for a problem which lasts.
type sent struct {
	Since   time.Time   `json:"since"`
	Last    time.Time   `json:"last"` // of the latest message
	Text    string      `json:"text"` // for files of versions that kept no problem
	Problem api.Problem `json:"problem,omitzero"`
}

// Open reads which alerts were sent from a file of the state directory.
func Open(state string, send Send, clock clockwork.Clock, log *slog.Logger) (*Alerter, error) {
	a := &Alerter{path: filepath.Join(state, "alerts.json"), send: send, clock: clock, log: log, open: map[string]sent{}}
	data, err := os.ReadFile(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.open)
	}
	if err != nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: a.path, Message: "cannot read which alerts were sent: " + problem.Reason(err), Cause: err,
			Hint: "remove the file: alerts are then sent again",
		}
	}
	return a, nil
}

// Update sends alerts for problems that are new, that have lasted another day, and that are
// over; over returns how a problem has ended that was first seen at an instant. A message
// that cannot be sent is retried at the next Update.
func (a *Alerter) Update(ctx context.Context, now []api.Problem, over func(api.Problem, time.Time) string) error {
	before := len(a.open)
	changed := false
	current := map[string]bool{}
	for _, t := range now {
		current[t.Key] = true
		changed = a.alert(ctx, t) || changed
	}
	for _, key := range slices.Sorted(maps.Keys(a.open)) {
		if !current[key] && a.over(ctx, key, over) {
			changed = true
		}
	}
	if !changed && before == len(a.open) {
		return nil
	}
	data, err := json.Marshal(a.open)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(a.path, data)
}

// alert sends a problem's message if it is time for one.
func (a *Alerter) alert(ctx context.Context, p api.Problem) bool {
	now := a.clock.Now().UTC()
	s, known := a.open[p.Key]
	if known && now.Sub(s.Last) < repeat && !now.Before(s.Last) {
		return false
	}
	title := p.Title(p.Severity)
	if known {
		title += ", since " + s.Since.Format(time.DateOnly)
	} else {
		s.Since = now
	}
	message := plain.Line(p.Text)
	if p.Next != "" {
		message += "\nnext: " + plain.Line(p.Next)
	}
	if !a.deliver(ctx, p.Key, title, message) {
		return false
	}
	s.Last, s.Text, s.Problem = now, p.Text, p
	a.open[p.Key] = s
	return true
}

func (a *Alerter) over(ctx context.Context, key string, how func(api.Problem, time.Time) string) bool {
	s := a.open[key]
	p := s.Problem
	if p.Key == "" {
		p = api.Problem{Key: key, What: key, Text: s.Text}
	}
	if !a.deliver(ctx, "over: "+key, p.Title("over"), plain.Line(how(p, s.Since))) {
		return false
	}
	delete(a.open, key)
	return true
}

// deliver sends a message, and reports whether it must not be retried.
func (a *Alerter) deliver(ctx context.Context, what, title, message string) bool {
	err := a.send(ctx, plain.Line(title), message)
	if err == nil {
		return true
	}
	a.log.Error("alert not sent", "alert", what, "error", err.Error())
	return errors.Is(err, ErrPartly)
}
