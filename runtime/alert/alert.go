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

// Send sends one message to everybody who is to get it.
type Send func(ctx context.Context, title, message string) error

// repeat is how often a trouble that lasts is said again.
const repeat = 24 * time.Hour

// Alerter remembers what was said. It is for one goroutine.
type Alerter struct {
	path  string
	send  Send
	clock clockwork.Clock
	log   *slog.Logger
	said  map[string]said
}

type said struct {
	Since   time.Time   `json:"since"`
	Last    time.Time   `json:"last"` // of the latest message that went out
	Text    string      `json:"text"` // of the versions that kept no problem
	Problem api.Problem `json:"problem,omitzero"`
}

// Open reads what was said from a file of the state directory.
func Open(state string, send Send, clock clockwork.Clock, log *slog.Logger) (*Alerter, error) {
	a := &Alerter{path: filepath.Join(state, "alerts.json"), send: send, clock: clock, log: log, said: map[string]said{}}
	data, err := os.ReadFile(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.said)
	}
	if err != nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: a.path, Message: "cannot read which alerts were sent: " + problem.Reason(err), Cause: err,
			Hint: "remove the file: alerts are then sent anew",
		}
	}
	return a, nil
}

// Update says what is new, what has lasted a day longer, and what is over; over says how
// a problem has ended that was first seen at an instant. A message that cannot be sent is
// tried again at the next Update.
func (a *Alerter) Update(ctx context.Context, now []api.Problem, over func(api.Problem, time.Time) string) error {
	before := len(a.said)
	changed := false
	current := map[string]bool{}
	for _, t := range now {
		current[t.Key] = true
		changed = a.tell(ctx, t) || changed
	}
	for _, key := range slices.Sorted(maps.Keys(a.said)) {
		if !current[key] && a.over(ctx, key, over) {
			changed = true
		}
	}
	if !changed && before == len(a.said) {
		return nil
	}
	data, err := json.Marshal(a.said)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(a.path, data)
}

// tell sends a problem's message when it is time for one.
func (a *Alerter) tell(ctx context.Context, p api.Problem) bool {
	now := a.clock.Now().UTC()
	s, known := a.said[p.Key]
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
	if !a.sent(ctx, p.Key, title, message) {
		return false
	}
	s.Last, s.Text, s.Problem = now, p.Text, p
	a.said[p.Key] = s
	return true
}

func (a *Alerter) over(ctx context.Context, key string, how func(api.Problem, time.Time) string) bool {
	s := a.said[key]
	p := s.Problem
	if p.Key == "" {
		p = api.Problem{Key: key, What: key, Text: s.Text}
	}
	if !a.sent(ctx, "over: "+key, p.Title("over"), plain.Line(how(p, s.Since))) {
		return false
	}
	delete(a.said, key)
	return true
}

// sent sends a message, and reports whether it is not to be sent again.
func (a *Alerter) sent(ctx context.Context, what, title, message string) bool {
	err := a.send(ctx, plain.Line(title), message)
	if err == nil {
		return true
	}
	a.log.Error("alert not sent", "alert", what, "error", err.Error())
	return errors.Is(err, ErrPartly)
}
