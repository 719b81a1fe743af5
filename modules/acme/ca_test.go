package acme

import "testing"

func TestEmail(t *testing.T) {
	for email, ok := range map[string]bool{
		"":                              true,
		"admin@example.com":             true,
		"first.last+tls@sub.example.de": true,
		"admin":                         false,
		"admin@":                        false,
		"@example.com":                  false,
		"admin@host":                    false,
		"a b@example.com":               false,
		"Admin <admin@example.com>":     false,
		"mailto:admin@example.com":      false,
		"a@example.com,b@example.com":   false,
		"admin@example.com?subject=x":   false,
		"ädmin@example.com":             false,
		"admin@example..com":            false,
	} {
		if err := (CA{Email: email}).check(nil); (err == nil) != ok {
			t.Errorf("%q: got %v", email, err)
		}
	}
	private := CA{Directory: "https://ca.corp.example/acme/directory", Email: "admin@host"}
	if err := private.check(nil); err != nil {
		t.Errorf("a CA of one's own: got %v", err)
	}
}
