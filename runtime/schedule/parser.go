package schedule

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // for containers without zone files

	"moonseal/runtime/problem"
)

// longest bounds a text, and most the texts of a list.
const (
	longest = 200
	most    = 100
)

// Parser reads schedules and windows. It caches the time zones that it has read:
// thousands of playbooks share a few. The zero Parser is ready to use.
type Parser struct {
	Local *time.Location // if no zone is named; nil: this machine's

	mu    sync.Mutex
	zones map[string]*time.Location
}

func (p *Parser) local() *time.Location {
	if p.Local != nil {
		return p.Local
	}
	return time.Local
}

// zone finds a zone by its name in the IANA time zone database; "" is the local one.
func (p *Parser) zone(name string) (*time.Location, error) {
	if name == "" {
		return p.local(), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if loc, ok := p.zones[name]; ok {
		return loc, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil || len(name) > 64 || name == "Local" {
		return nil, fmt.Errorf("%s is not a valid time zone; it must be a name such as America/Chicago or UTC", quote(name))
	}
	if p.zones == nil {
		p.zones = map[string]*time.Location{}
	}
	p.zones[name] = loc
	return loc, nil
}

// texts returns the strings of a string or of a list of them.
func texts(v any) ([]string, error) {
	var out []string
	switch v := v.(type) {
	case string:
		out = []string{v}
	case []string:
		out = v
	case []any:
		for _, e := range v {
			text, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("must be a list of texts, not of %s", show(e))
			}
			out = append(out, text)
		}
	default:
		return nil, fmt.Errorf("must be a text or a list of texts, not %s", show(v))
	}
	if len(out) > most {
		return nil, fmt.Errorf("has %d texts, more than %d", len(out), most)
	}
	for _, text := range out {
		if len(text) > longest {
			return nil, fmt.Errorf("%s is longer than %d characters", quote(text), longest)
		}
	}
	return out, nil
}

func refuse(call string, err error, hint string) error {
	return &problem.Error{Kind: problem.Usage, Call: call, Message: err.Error(), Hint: hint}
}

// quote bounds what is quoted.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}

// show returns a value as a message quotes it.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return quote(v)
	case float64, bool, int:
		return fmt.Sprint(v)
	case []any, []string:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return fmt.Sprintf("a %T", v)
}
