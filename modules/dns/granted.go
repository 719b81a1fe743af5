package dns

import (
	"strings"

	"moonseal/runtime/bind"
)

// granted refuses names that the config does not let the playbook have certificates for:
// with a record at one of them, another party could get its certificate, and a question
// about any name reaches the name servers of its owner.
func granted(c *bind.Call, names ...string) error {
	for _, name := range names {
		err := c.Network.Name(proven(name))
		if err != nil && c.Network.Name("*."+proven(name)) != nil {
			return err
		}
	}
	return nil
}

// grantedOf returns those of names that are granted, all of them if none is bounded;
// an error if there are names, and none of them is granted.
func grantedOf(c *bind.Call, names []string) ([]string, error) {
	if !c.Network.BoundsNames() {
		return names, nil
	}
	var out []string
	var refused error
	for _, name := range names {
		if err := granted(c, name); err != nil {
			refused = err
			continue
		}
		out = append(out, name)
	}
	if len(out) == 0 && refused != nil {
		return nil, refused
	}
	return out, nil
}

func (a *challengesArgs) granted(c *bind.Call) error { return granted(c, namesOf(a.Challenges)...) }

func namesOf(challenges []Challenge) []string {
	out := make([]string, 0, len(challenges))
	for _, ch := range challenges {
		out = append(out, ch.Name)
	}
	return out
}

// proven returns the name that a challenge at name proves.
func proven(name string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSuffix(name, ".")), "_acme-challenge.")
}
