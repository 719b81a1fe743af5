package config

import (
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// Diff returns the names of the settings in which two configs differ, sorted: "proxy", and
// for those that have keys "alerts.urls" or "secrets.NAME". Their place in the file does
// not count.
func Diff(a, b *Config) ([]string, error) {
	old, err := a.settings()
	if err != nil {
		return nil, err
	}
	now, err := b.settings()
	if err != nil {
		return nil, err
	}
	var names []string
	for name, v := range now {
		if !reflect.DeepEqual(old[name], v) {
			names = append(names, name)
		}
	}
	for name := range old {
		if _, there := now[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// settings returns all that is set, by name.
func (c *Config) settings() (map[string]any, error) {
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, err
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for name, v := range all {
		keys, nested := v.(map[string]any)
		if !nested || name == "hosts" {
			out[name] = v
			continue
		}
		for key, v := range keys {
			out[name+"."+key] = v
		}
	}
	return out, nil
}
