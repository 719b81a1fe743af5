package acme

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"moonseal/runtime/problem"
)

// Problem is a CA's problem document (RFC 8555 section 6.7), or one of its
// subproblems.
type Problem struct { //nolint:errname // RFC 7807 calls it so
	Type       string `lua:"type" doc:"such as rateLimited or unauthorized, without its namespace"`
	Detail     string `lua:"detail" doc:"the CA's own words"`
	Identifier string `lua:"identifier,optional" doc:"the name that it is about; empty if it is about the whole"`

	subproblems []Problem
}

const namespace = "urn:ietf:params:acme:error:"

// Types of problems that this client acts on.
const (
	badNonce            = "badNonce"
	malformed           = "malformed"
	orderNotReady       = "orderNotReady"
	accountDoesNotExist = "accountDoesNotExist"
)

// Error returns the document in one line.
func (p *Problem) Error() string {
	var parts []string
	for _, s := range []string{p.Type, p.Identifier, p.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	var text strings.Builder
	text.WriteString(strings.Join(parts, ": "))
	for _, sub := range p.subproblems {
		text.WriteString("; " + sub.Error())
	}
	return text.String()
}

func fromDocument(d *acme.ProblemDetails) *Problem {
	p := &Problem{Type: strings.TrimPrefix(d.Type, namespace), Detail: d.Detail}
	for _, sub := range d.SubProblems {
		p.subproblems = append(p.subproblems, Problem{
			Type: strings.TrimPrefix(sub.Type, namespace), Detail: sub.Detail, Identifier: sub.Identifier.Value,
		})
	}
	return p
}

// isType reports whether err is a CA's problem of one of these types.
func isType(err error, types ...string) bool {
	var p *Problem
	if !errors.As(err, &p) {
		return false
	}
	return slices.Contains(types, p.Type)
}

type verdict struct {
	kind problem.Kind
	hint string
}

// verdicts says what a type of problem means if the status says too little.
func verdicts() map[string]verdict {
	return map[string]verdict{
		"rateLimited":             {problem.RateLimited, ""},
		"serverInternal":          {problem.Unavailable, ""},
		accountDoesNotExist:       {problem.Auth, "the CA does not know this account (any more): run the playbook again to register it"},
		"unauthorized":            {problem.Auth, "is the account deactivated, or does the order belong to another account?"},
		"externalAccountRequired": {problem.Auth, "set eab = { kid = …, hmac = secret \"…\" } with the values that the CA shows"},
		"userActionRequired":      {problem.Auth, "visit the page that the CA names and agree to its terms"},
		"badCSR":                  {problem.Refused, "the CA does not take this signing request: look at its names, key size and signature algorithm"},
		"badPublicKey":            {problem.Refused, "the CA does not take keys of this type or size"},
		"badSignatureAlgorithm":   {problem.Refused, ""},
		"rejectedIdentifier":      {problem.Refused, "the CA does not issue for this name"},
		"unsupportedIdentifier":   {problem.Refused, ""},
		"invalidContact":          {problem.Refused, "look at the email of acme.ca"},
		"unsupportedContact":      {problem.Refused, "look at the email of acme.ca"},
		"invalidProfile":          {problem.Refused, "look at the profile of acme.ca"},
		"caa":                     {problem.Refused, "a CAA record of the domain forbids this CA to issue"},
		"dns":                     {problem.Refused, "the CA could not look up the challenge's TXT record: do all of the zone's public name servers answer?"},
		"incorrectResponse":       {problem.Refused, "the CA found another TXT record than the one that was published"},
		malformed:                 {problem.Refused, ""},
		orderNotReady:             {problem.Conflict, ""},
		"alreadyReplaced":         {problem.Conflict, ""},
	}
}

// verdict says what the problem means.
func (p *Problem) verdict() verdict { return verdicts()[p.deciding().Type] }

// compound is the type of a problem whose subproblems say what it is (section 6.7.1).
const compound = "compound"

// deciding returns the problem that says what p means: of a compound one the subproblem
// that waiting helps least, else p itself.
func (p *Problem) deciding() *Problem {
	if p.Type != compound {
		return p
	}
	decides := p
	for i := range p.subproblems {
		sub := &p.subproblems[i]
		v, ok := verdicts()[sub.Type]
		switch {
		case !ok:
		case decides == p, verdicts()[decides.Type].kind.Retryable() && !v.kind.Retryable():
			decides = sub
		}
	}
	return decides
}

// temporary reports whether the problem of a challenge that the CA has not given up may
// pass with time.
func (p *Problem) temporary() bool {
	switch p.deciding().Type {
	case "caa", "unsupportedIdentifier", "userActionRequired", "externalAccountRequired", accountDoesNotExist, malformed:
		return false
	}
	return true
}

// joined returns problems as one line.
func joined(problems []Problem) string {
	var parts []string
	for i := range problems {
		p := &problems[i]
		if p.Identifier == "" && slices.ContainsFunc(problems, func(q Problem) bool { return q.Identifier != "" && q.Detail == p.Detail }) {
			continue // a CA says of the order what it says of a name
		}
		parts = append(parts, p.Error())
	}
	return strings.Join(parts, "; ")
}

// refusal returns the error of an answer with a status of 400 or more.
func refusal(what string, status int, header http.Header, body []byte, now time.Time) *problem.Error {
	var doc acme.ProblemDetails
	if json.Unmarshal(body, &doc) != nil || doc.Type == "" && doc.Detail == "" {
		e := problem.Status(status, header, string(body), now)
		e.Message += " to " + what
		if e.Kind == problem.Auth && status != http.StatusUnauthorized {
			// Without a document a 403 comes from something before the CA.
			e.Hint = "this answer does not look like an ACME server's: is there a proxy in between?"
		}
		return e
	}
	p := fromDocument(&doc)
	e := problem.Status(status, header, p.Error(), now)
	e.Message += " to " + what
	e.Cause = p
	if v := p.verdict(); v.kind != "" {
		e.Kind, e.Hint = v.kind, v.hint
	}
	if p.Type == "userActionRequired" && doc.Instance != "" {
		e.Hint = "visit " + doc.Instance + " and agree to the CA's terms"
	}
	return e
}
