package journal

import "encoding/json"

// Logged is a line of a run's log. It must hold no secret.
type Logged struct {
	Stamp
	Level   string          `json:"level"`          // "debug", "info", "warn", "error"
	Step    string          `json:"step,omitempty"` // the step's name
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields,omitempty"` // an object
}

// Recorded is what a script recorded about the world (ctx:record). Seq counts the run's from
// 0; an existing one is not replaced.
type Recorded struct {
	Stamp
	Seq  int             `json:"seq"`
	Data json.RawMessage `json:"data"`
}

// HookRan precedes the execution of a hook for an event, which Key names within its run. A
// second one is ErrMisuse: a hook is executed at most once.
type HookRan struct {
	Stamp
	Key string `json:"key"`
}

// Type of the record on the wire.
func (Logged) Type() string { return "logged" }

// Type of the record on the wire.
func (Recorded) Type() string { return "recorded" }

// Type of the record on the wire.
func (HookRan) Type() string { return "hook_ran" }

func (r Logged) apply(w *conn) error {
	return w.one(r, `INSERT INTO logs (run, seq, at, level, step, message, fields)
		VALUES ($1, (SELECT coalesce(max(seq), 0) + 1 FROM logs WHERE run = $1), $2, $3, $4, $5, $6)`,
		r.Run, r.At.UnixNano(), r.Level, r.Step, r.Message, text(r.Fields))
}

func (r Recorded) apply(w *conn) error {
	data, err := w.shared(r.Run, r.Data)
	if err != nil {
		return err
	}
	_, err = w.exec(`INSERT INTO records (run, seq, at, data) VALUES ($1, $2, $3, $4) ON CONFLICT (run, seq) DO NOTHING`,
		r.Run, r.Seq, r.At.UnixNano(), data)
	if err != nil {
		return err
	}
	_, err = w.exec(`INSERT INTO playbooks (playbook, recorded) SELECT playbook, id FROM runs WHERE id = $1
		ON CONFLICT (playbook) DO UPDATE SET recorded = excluded.recorded WHERE coalesce(recorded, '') < excluded.recorded`, r.Run)
	return err
}

func (r HookRan) apply(w *conn) error {
	return w.one(r, `INSERT INTO hooks (run, key, at) VALUES ($1, $2, $3) ON CONFLICT (run, key) DO NOTHING`, r.Run, r.Key, r.At.UnixNano())
}
