package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Trouble is one thing that someone has to look at.
type Trouble struct {
	Key  string // the same as long as it is the same trouble, such as "parked dfw"
	Text string // what it is: playbook, node, days left, in one or two lines
	Next string // the command to type next
}

func (t Trouble) message() string {
	if t.Next == "" {
		return t.Text
	}
	return t.Text + "\nnext: " + t.Next
}

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
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"` // of the latest message that went out
	Text  string    `json:"text"`
}

// Open reads what was said from a file of the state folder.
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

// Update says what is new, what has lasted a day longer, and what is over. A
// message that cannot be sent is tried again at the next Update.
func (a *Alerter) Update(ctx context.Context, now []Trouble) error {
	before := len(a.said)
	changed := false
	current := map[string]bool{}
	for _, t := range now {
		current[t.Key] = true
		changed = a.tell(ctx, t) || changed
	}
	for _, key := range slices.Sorted(maps.Keys(a.said)) {
		if !current[key] && a.over(ctx, key) {
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

// tell sends a trouble's message where it is time for one.
func (a *Alerter) tell(ctx context.Context, t Trouble) bool {
	now := a.clock.Now().UTC()
	s, known := a.said[t.Key]
	if known && now.Sub(s.Last) < repeat && !now.Before(s.Last) {
		return false
	}
	title := "moonseal: attention needed"
	if known {
		title = fmt.Sprintf("moonseal: attention still needed, since %s", s.Since.Format(time.DateOnly))
	} else {
		s.Since = now
	}
	if err := a.send(ctx, title, t.message()); err != nil {
		a.log.Error("alert not sent", "alert", t.Key, "error", err.Error())
		if !errors.Is(err, ErrPartly) {
			return false
		}
	}
	s.Last, s.Text = now, t.Text
	a.said[t.Key] = s
	return true
}

func (a *Alerter) over(ctx context.Context, key string) bool {
	s := a.said[key]
	if err := a.send(ctx, "moonseal: over", s.Text); err != nil {
		a.log.Error("alert not sent", "alert", "over: "+key, "error", err.Error())
		if !errors.Is(err, ErrPartly) {
			return false
		}
	}
	delete(a.said, key)
	return true
}
