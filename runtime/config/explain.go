package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"moonseal/runtime/problem"
)

var (
	lineFirst   = regexp.MustCompile(`(?s)^line (\d+): (.*)$`)
	wrongType   = regexp.MustCompile("^cannot unmarshal !!([a-z]+)(?: `(.*)`)? into (.+)$")
	tabAtBegin  = regexp.MustCompile(`(?m)^ *\t`)
	typeMeaning = map[string]string{ //nolint:gochecknoglobals // never changed
		"str": "a text", "int": "a number", "float": "a number", "bool": "true or false", "seq": "a list", "map": "a table of keys", "null": "nothing",
		"string": "a text", "time.Duration": `a duration such as "10s"`, "float64": "a number",
	}
)

// explain returns an error of the YAML library as a problem with source and line, in words
// of the file instead of Go's. data is the file, nil if it is not at hand.
func explain(source string, err error, data []byte) error {
	if mine, ok := errors.AsType[*problem.Error](err); ok {
		return mine
	}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if t, ok := errors.AsType[*yaml.TypeError](err); ok && len(t.Errors) > 0 {
		message = t.Errors[0]
	}
	e := &problem.Error{Kind: problem.Usage, Target: source, Message: message, Cause: err}
	if m := lineFirst.FindStringSubmatch(message); m != nil {
		e.Target, e.Message = source+":"+m[1], m[2]
	}
	if m := wrongType.FindStringSubmatch(e.Message); m != nil {
		e.Message = fmt.Sprintf("expects %s, got %s", meaning(m[3]), got(m[1], m[2]))
	}
	if tabAtBegin.Match(data) {
		e.Hint = "YAML indents with spaces: a line starts with a tab"
	}
	return e
}

// meaning returns a Go type in words.
func meaning(name string) string {
	switch text := typeMeaning[name]; {
	case text != "":
		return text
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "int"):
		return "a whole number"
	case name == "bool":
		return typeMeaning["bool"]
	default:
		return "a table of keys"
	}
}

func got(tag, value string) string {
	if value != "" {
		return fmt.Sprintf("%q", value)
	}
	return meaning(tag)
}
