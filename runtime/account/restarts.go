package account

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"time"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Restarts are the restarts that were started to have one certificate served.
type Restarts struct {
	SHA256   string             `json:"sha256"`   // the certificate's fingerprint
	Services map[string]Restart `json:"services"` // the latest of each service
}

// Restart is when a run started to restart a service.
type Restart struct {
	Run string    `json:"run"`
	At  time.Time `json:"at"`
}

// Restarts returns what SaveRestarts kept, the zero Restarts if nothing. A damaged
// file is an error: read as "none" it would permit a second restart.
func (s *Store) Restarts(host, service string) (Restarts, error) {
	dir, err := s.service(host, service)
	if err != nil {
		return Restarts{}, err
	}
	path := filepath.Join(dir, "restarted.json")
	b, err := readFile(path)
	if err != nil || b == nil {
		return Restarts{}, err
	}
	var r Restarts
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Restarts{}, &problem.Error{
			Kind: problem.Usage, Target: path, Message: "the record of restarts is damaged: " + err.Error(), Work: problem.NotDone,
			Hint: "check whether the node serves its new certificate, then move the file away",
		}
	}
	return r, nil
}

// SaveRestarts replaces what is kept for host and service.
func (s *Store) SaveRestarts(host, service string, r Restarts) error {
	dir, err := s.service(host, service)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, "restarted.json"), append(b, '\n'))
}
