package config

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Limits bound a run's process.
type Limits struct {
	Memory Bytes `yaml:"memory"` // 256 MiB unless set
	CPU    Share `yaml:"cpu"`    // none unless set
	Files  int   `yaml:"files"`  // that are open at once; 256 unless set
}

// DefaultMemory is the memory limit of a run's process unless the config sets one.
const DefaultMemory Bytes = 256 << 20

const (
	defaultFiles = 256
	leastFiles   = 32 // for the roots, the resolver and a few connections
	mostFiles    = 1 << 20
)

func (l *Limits) defaults() error {
	if l.Memory == 0 {
		l.Memory = DefaultMemory
	}
	if l.Files == 0 {
		l.Files = defaultFiles
	}
	if l.Files < leastFiles || l.Files > mostFiles {
		return fmt.Errorf("limits.files must be from %d to %d, not %d", leastFiles, mostFiles, l.Files)
	}
	return nil
}

// Bytes is a number of bytes, written as 1048576, 512KiB, 256MiB or 1GiB.
type Bytes int64

// UnmarshalYAML implements [yaml.Unmarshaler].
func (b *Bytes) UnmarshalYAML(node *yaml.Node) error {
	text, unit := node.Value, int64(1)
	for suffix, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = strings.TrimSpace(rest), n
		}
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if unit == 1 {
		n, err = strconv.ParseInt(text, 10, 64)
	}
	if err != nil || n <= 0 {
		return fmt.Errorf("line %d: %q is not a valid number of bytes, such as 256MiB", node.Line, node.Value)
	}
	*b = Bytes(n * unit)
	return nil
}

// Share is a share of the processors' time, written as 50% of one or as 0.5 of them; 0 is
// no limit.
type Share float64

// UnmarshalYAML implements [yaml.Unmarshaler].
func (s *Share) UnmarshalYAML(node *yaml.Node) error {
	if node.Value == "none" {
		*s = 0
		return nil
	}
	text, percent := strings.CutSuffix(node.Value, "%")
	n, err := strconv.ParseFloat(text, 64)
	if percent {
		n /= 100
	}
	const least, most = 0.01, 1024
	if err != nil || !(n >= least && n <= most) { // NaN is neither
		return fmt.Errorf(`line %d: %q is not a valid share of a processor, such as 50%% or 1.5, and not "none"`, node.Line, node.Value)
	}
	*s = Share(n)
	return nil
}
