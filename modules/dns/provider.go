package dns

import (
	"context"
	"strings"

	"github.com/libdns/libdns"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// token looks up a credential, without the newline that files end in.
func (c *Client) token(ctx context.Context, h secret.Handle) (string, error) {
	v, err := c.secret(ctx, h)
	if err != nil {
		return "", err
	}
	v = strings.TrimSpace(v)
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", &problem.Error{
			Kind: problem.Auth, Work: problem.NotDone,
			Message: "the value of " + h.String() + " is not a valid token: it has spaces or other characters that no token has",
		}
	}
	return v, nil
}

// halfDone returns err with its work Unknown if an earlier change of the same call was
// made.
func halfDone(err *problem.Error, half bool) error {
	if half {
		err.Work = problem.Unknown
	}
	return err
}

func toLibdns(r Record) []libdns.Record {
	return []libdns.Record{libdns.TXT{Name: libdns.RelativeName(r.Name, r.Zone), TTL: r.TTL, Text: r.Value}}
}

func fromLibdns(apex string, records []libdns.Record) []Record {
	out := make([]Record, 0, len(records))
	for _, rec := range records {
		rr := rec.RR()
		name := apex
		if rr.Name != "@" && rr.Name != "" {
			name = strings.ToLower(libdns.AbsoluteName(rr.Name, apex))
		}
		out = append(out, Record{Zone: apex, Name: strings.TrimSuffix(name, "."), Type: rr.Type, Value: rr.Data, TTL: rr.TTL})
	}
	return out
}

// matching returns the records of name and typ; "" stands for all.
func matching(records []Record, name, typ string) []Record {
	out := []Record{}
	for _, r := range records {
		if (name == "" || r.Name == name) && (typ == "" || r.Type == typ) {
			out = append(out, r)
		}
	}
	return out
}
