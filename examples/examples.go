// Package examples holds what "moonseal init" writes, beside playbooks and units to
// copy from.
package examples

import _ "embed" // the config is a file, to be read where it stands

// Config is a moonseal.yaml that shows every key.
//
//go:embed moonseal.yaml
var Config []byte

// Schema is the JSON Schema of a moonseal.yaml, for editors.
//
//go:embed moonseal.schema.json
var Schema []byte
