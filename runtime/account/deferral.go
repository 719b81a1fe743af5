package account

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/atomicfile"
)

// Deferral is why, and until when, a CA is not queried for the renewal window of a
// certificate.
type Deferral struct {
	Until time.Time `json:"until"`
	Error string    `json:"error"` // what the CA answered
}

// LongestDeferral is how long a CA is not queried at most (RFC 9773 section 4.3.3).
const LongestDeferral = 6 * time.Hour

const (
	maxDeferrals      = 256 // of one directory
	longestDeferredID = 256 // bytes of a certificate's identifier
)

// holds reports whether d is in force at now. One that ends later than LongestDeferral
// allows was made while the clock was wrong.
func (d Deferral) holds(now time.Time) bool {
	return d.Until.After(now) && !d.Until.After(now.Add(LongestDeferral))
}

// Deferral returns what SaveDeferral kept for a certificate, by its ARI identifier, at a
// CA's directory; the zero Deferral if nothing, or if it does not hold at now. A damaged
// file counts as none: all that it saves is a query.
func (s *Store) Deferral(directory, certificate string, now time.Time) (Deferral, error) {
	path, err := s.deferrals(directory)
	if err != nil {
		return Deferral{}, err
	}
	all, err := readDeferrals(path)
	if d := all[certificate]; d.holds(now) {
		return d, err
	}
	return Deferral{}, err
}

// SaveDeferral keeps d for a certificate, and drops those that do not hold at now.
func (s *Store) SaveDeferral(directory, certificate string, d Deferral, now time.Time) error {
	path, err := s.deferrals(directory)
	if err != nil {
		return err
	}
	if certificate == "" || len(certificate) > longestDeferredID {
		return badName("certificate's ARI identifier", certificate, "1 to 256 bytes")
	}
	if err := atomicfile.MakeDir(filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := lock(strings.TrimSuffix(path, ".json") + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := readDeferrals(path)
	if err != nil {
		return err
	}
	maps.DeleteFunc(all, func(id string, other Deferral) bool { return id == certificate || !other.holds(now) })
	for len(all) >= maxDeferrals {
		first := slices.MinFunc(slices.Collect(maps.Keys(all)), func(a, b string) int { return all[a].Until.Compare(all[b].Until) })
		delete(all, first)
	}
	all[certificate] = Deferral{Until: d.Until.UTC(), Error: d.Error}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, append(b, '\n'))
}

func (s *Store) deferrals(directory string) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	host, folder, err := directoryName(directory)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "_acme", host, folder, "renewal-info.json"), nil
}

// readDeferrals returns the deferrals by certificate, never nil.
func readDeferrals(path string) (map[string]Deferral, error) {
	b, err := readFile(path)
	var all map[string]Deferral
	if err != nil || b == nil || json.Unmarshal(b, &all) != nil || all == nil {
		return map[string]Deferral{}, err
	}
	return all, nil
}
