package account

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Pins are the fingerprints of which a host must show one. No fingerprints
// means that nothing was trusted yet, not that anything is.
type Pins struct {
	TLS []string `json:"tls,omitempty"` // SHA-256 over the leaf's DER, lower-case hex
	SSH []string `json:"ssh,omitempty"` // host keys as ssh-keygen -l prints them: "SHA256:…"
}

// Pins returns host's pins, the zero Pins if there are none.
func (s *Store) Pins(host string) (Pins, error) {
	dir, err := s.host(host)
	if err != nil {
		return Pins{}, err
	}
	path := filepath.Join(dir, "pins.json")
	b, err := readFile(path)
	if err != nil || b == nil {
		return Pins{}, err
	}
	var p Pins
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return Pins{}, &problem.Error{
			Kind: problem.Usage, Target: path, Message: "the pins are damaged: " + err.Error(), Work: problem.NotDone,
			Hint: "move the file away and trust the host again: " + s.TrustCommand(host, 0, 0),
		}
	}
	return p, p.check()
}

// SavePins replaces host's pins.
func (s *Store) SavePins(host string, p Pins) error {
	dir, err := s.host(host)
	if err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, "pins.json"), append(b, '\n'))
}

// TrustCommand returns the command that pins what host shows, for this store's tenant.
// A port of 0 is the usual one.
func (s *Store) TrustCommand(host string, port, sshPort int) string {
	out := "moonseal trust"
	if s.tenant != "" {
		out += " --tenant " + s.tenant
	}
	if port != 0 && port != 443 {
		out += " --port " + strconv.Itoa(port)
	}
	if sshPort != 0 && sshPort != 22 {
		out += " --ssh-port " + strconv.Itoa(sshPort)
	}
	return out + " " + host
}

// check refuses a pin that could never match: it would lock the host out.
func (p Pins) check() error {
	for _, pin := range p.TLS {
		if b, err := hex.DecodeString(pin); err != nil || len(b) != 32 || pin != strings.ToLower(pin) {
			return badName("TLS fingerprint", pin, "the SHA-256 of the certificate in lower-case hex, 64 digits")
		}
	}
	for _, pin := range p.SSH {
		sum, ok := strings.CutPrefix(pin, "SHA256:")
		if b, err := base64.RawStdEncoding.DecodeString(sum); !ok || err != nil || len(b) != 32 {
			return badName("SSH host key fingerprint", pin, "what ssh-keygen -l prints: SHA256:…")
		}
	}
	return nil
}
