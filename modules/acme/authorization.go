package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/problem"
)

// maxAtOnce bounds the requests of one call that run at once.
const maxAtOnce = 8

func (c *Client) getAuthorization(ctx context.Context, acct *Account, url string) (acme.Authorization, http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return acme.Authorization{}, nil, err
	}
	var a acme.Authorization
	header, err := c.do(ctx, "authorization", kid, key, func(core *api.Core) (err error) {
		a, err = core.Authorizations.Get(url)
		return err
	})
	return a, header, err
}

// getAuthorizations reads several at once, in the order of their URLs.
func (c *Client) getAuthorizations(ctx context.Context, acct *Account, urls []string) ([]acme.Authorization, error) {
	out := make([]acme.Authorization, len(urls))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for i, url := range urls {
		group.Go(func() (err error) {
			out[i], _, err = c.getAuthorization(ctx, acct, url)
			return err
		})
	}
	return out, group.Wait()
}

// challenge returns the dns-01 challenge of a pending authorization.
func challenge(keyAuthorization func(token string) (string, error), authorizationURL string, a acme.Authorization) (Challenge, error) {
	var offered []string
	for _, ch := range a.Challenges {
		offered = append(offered, ch.Type)
		if ch.Type != dns01 {
			continue
		}
		text, err := keyAuthorization(ch.Token)
		if err != nil {
			return Challenge{}, err
		}
		digest := sha256.Sum256([]byte(text))
		return Challenge{
			Identifier: a.Identifier.Value, Wildcard: a.Wildcard, Type: ch.Type,
			Name:  "_acme-challenge." + strings.TrimSuffix(a.Identifier.Value, ".") + ".",
			Value: base64.RawURLEncoding.EncodeToString(digest[:]),
			URL:   ch.URL, Authorization: authorizationURL, Status: ch.Status, Token: ch.Token,
		}, nil
	}
	return Challenge{}, &problem.Error{
		Kind: problem.Refused, Target: a.Identifier.Value, Work: problem.NotDone,
		Message: "the CA offers no dns-01 challenge for this name, only " + strings.Join(offered, ", "),
	}
}

// dns01 is the type of the challenges that are answered here.
const dns01 = "dns-01"

// problemsOf returns what the CA found wrong with an authorization's challenges, and
// nothing once it is valid: then one of them was met.
func problemsOf(a acme.Authorization) []Problem {
	var out []Problem
	if a.Status == acme.StatusValid {
		return nil
	}
	for _, ch := range a.Challenges {
		if ch.Error == nil {
			continue
		}
		p := fromDocument(ch.Error)
		p.Identifier = a.Identifier.Value
		out = append(out, *p)
	}
	return out
}
