package config

import (
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"moonseal/runtime/duration"
)

// Keeping says how long the daemon keeps what has ended.
type Keeping struct {
	Runs    Age `yaml:"runs"`    // with all that belongs to them; 400d unless set
	Skipped Age `yaml:"skipped"` // those that had nothing to do; as runs unless set
	Logs    Age `yaml:"logs"`    // 90d unless set
}

// Age is a time span of a day or more, written as "90d", or "forever".
type Age time.Duration

// Forever is the age of what is never removed.
const Forever Age = -1

const (
	defaultRuns = Age(400 * 24 * time.Hour) // more than a year: what the last renewal did, and the one before
	defaultLogs = Age(90 * 24 * time.Hour)
	leastAge    = Age(24 * time.Hour)
	forever     = "forever"
)

// UnmarshalYAML implements [yaml.Unmarshaler].
func (a *Age) UnmarshalYAML(node *yaml.Node) error {
	if node.Value == forever {
		*a = Forever
		return nil
	}
	d, err := duration.Parse(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	if *a = Age(d); *a < leastAge {
		return fmt.Errorf(`line %d: it must be a day ("1d") or more, or "forever", not %q`, node.Line, node.Value)
	}
	return nil
}

// Duration returns the age; 0 is for ever.
func (a Age) Duration() time.Duration { return time.Duration(max(a, 0)) }

// String returns the age as it is written.
func (a Age) String() string {
	const day = Age(24 * time.Hour)
	switch {
	case a == Forever:
		return forever
	case a%day == 0:
		return fmt.Sprintf("%dd", a/day)
	default:
		return time.Duration(a).String()
	}
}

func (k *Keeping) defaults() {
	if k.Runs == 0 {
		k.Runs = defaultRuns
	}
	if k.Skipped == 0 {
		k.Skipped = k.Runs
	}
	if k.Logs == 0 {
		k.Logs = defaultLogs
	}
}
