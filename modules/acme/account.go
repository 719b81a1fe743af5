package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	stdx509 "crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

// Account is an account at a CA (RFC 8555 section 7.1.2). It is plain data; its
// key stays in the [Store].
type Account struct {
	CA  *CA    `lua:"ca" doc:"the CA that it belongs to"`
	URL string `lua:"url" doc:"the account's URL, its identity at the CA"`
}

// Account finds the account of the CA's email again, or registers it. The key is on disk
// before the CA sees it, so that doing this twice does no harm. Registering agrees to the
// CA's terms of service.
func (c *Client) Account(ctx context.Context) (*Account, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	created, err := c.loadKey(true)
	if err == nil && !created {
		err = c.loadURL()
	}
	unlock()
	if err != nil {
		return nil, problem.At(err, "", c.directory.Host)
	}
	if known := c.account(); known != nil {
		return known, nil
	}
	if err := c.register(ctx, created); err != nil {
		return nil, err
	}
	return c.account(), nil
}

// Known returns the account if its key and URL are in the store, else nil. It sends no
// request.
func (c *Client) Known(ctx context.Context) (*Account, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := c.loadKey(false); err != nil {
		if problem.From(err).Kind == problem.NotFound {
			return nil, nil //nolint:nilnil // nil is the documented "none"
		}
		return nil, problem.At(err, "", c.directory.Host)
	}
	if err := c.loadURL(); err != nil {
		return nil, problem.At(err, "", c.directory.Host)
	}
	return c.account(), nil
}

// holder is who the store keeps the account for.
func (c *Client) holder() account.Holder {
	return account.Holder{Directory: c.directory.String(), KeyID: c.ca.EAB.KeyID, Email: c.ca.Email}
}

// account returns the account as far as this client knows it, else nil.
func (c *Client) account() *Account {
	_, kid := c.identity()
	if kid == "" {
		return nil
	}
	ca := c.ca
	return &Account{CA: &ca, URL: kid}
}

// register makes the account, or finds it by its key if that is not new (section 7.3.1):
// a binding may be good for one registration only.
func (c *Client) register(ctx context.Context, created bool) error {
	key, _ := c.identity()
	var found string
	var err error
	if !created {
		found, err = c.newAccount(ctx, key, acme.Account{OnlyReturnExisting: true})
		if err != nil && !isType(err, accountDoesNotExist) {
			return err
		}
	}
	if found == "" {
		if found, err = c.newAccount(ctx, key, c.registration()); err != nil {
			return err
		}
	}
	if err := c.opts.Store.SaveAccountURL(c.holder(), found); err != nil {
		return err
	}
	c.met(found)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kid = found
	return nil
}

func (c *Client) registration() acme.Account {
	msg := acme.Account{TermsOfServiceAgreed: true}
	if c.ca.Email != "" {
		msg.Contact = []string{"mailto:" + c.ca.Email}
	}
	return msg
}

func (c *Client) newAccount(ctx context.Context, key crypto.Signer, msg acme.Account) (string, error) {
	dir, err := c.getDirectory(ctx)
	if err != nil {
		return "", err
	}
	bind := !msg.OnlyReturnExisting && c.opts.HMAC != nil
	if dir.Meta.ExternalAccountRequired && !msg.OnlyReturnExisting && !bind {
		return "", &problem.Error{
			Kind: problem.Auth, Target: c.directory.Host, Message: "this CA requires an external account binding",
			Hint: verdicts()["externalAccountRequired"].hint, Work: problem.NotDone,
		}
	}
	var mac string
	if bind {
		if mac, err = c.mac(ctx); err != nil {
			return "", err
		}
	}
	var made acme.ExtendedAccount
	_, err = c.do(ctx, "new-account", "", key, func(core *api.Core) (err error) {
		if bind {
			made, err = core.Accounts.NewEAB(msg, c.ca.EAB.KeyID, mac)
		} else {
			made, err = core.Accounts.New(msg)
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case made.Location == "":
		return "", &problem.Error{Kind: problem.Unavailable, Target: c.directory.Host, Message: "the CA returned no account URL", Work: problem.Unknown}
	case made.Status != "" && made.Status != acme.StatusValid:
		return "", &problem.Error{
			Kind: problem.Auth, Target: made.Location, Message: "the account is " + made.Status,
			Hint: "move its key away to register a new one", Work: problem.NotDone,
		}
	}
	return made.Location, nil
}

// mac returns the binding's MAC key in base64url, checked: lego's error would quote it.
func (c *Client) mac(ctx context.Context) (string, error) {
	mac, err := c.opts.HMAC(ctx)
	if err != nil {
		return "", err
	}
	// CAs hand it out in either alphabet, and the protocol's is the one of URLs.
	mac = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(strings.TrimSpace(mac), "="))
	if key, err := base64.RawURLEncoding.DecodeString(mac); err != nil || len(key) == 0 {
		return "", &problem.Error{
			Kind: problem.Usage, Message: "the EAB's hmac is not base64", Work: problem.NotDone,
			Hint: "it is the MAC key as the CA shows it, in base64url (with - and _) or in standard base64 (with + and /), with or without = at its end",
		}
	}
	return mac, nil
}

// identity returns the account's key and URL as far as they are known.
func (c *Client) identity() (crypto.Signer, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key, c.kid
}

// use returns key and URL of acct, whose key must be in the store.
func (c *Client) use(ctx context.Context, acct *Account) (crypto.Signer, string, error) {
	key, kid := c.identity()
	if key == nil {
		unlock, err := c.lock(ctx)
		if err != nil {
			return nil, "", err
		}
		_, err = c.loadKey(false)
		unlock()
		if err != nil {
			return nil, "", problem.At(err, "", acct.URL)
		}
		key, kid = c.identity()
	}
	if kid == "" {
		kid = acct.URL
	}
	return key, kid, nil
}

// loadKey returns the key from the store; if may is set, a missing one is made.
func (c *Client) loadKey(may bool) (created bool, err error) {
	if key, _ := c.identity(); key != nil {
		return false, nil
	}
	text, created, err := c.opts.Store.AccountKey(c.holder(), func() ([]byte, error) {
		if !may {
			return nil, &problem.Error{
				Kind: problem.NotFound, Message: "the account's key is not in the state directory", Work: problem.NotDone,
				Hint: "a new run registers a new account",
			}
		}
		return newKey()
	})
	if err != nil {
		return false, err
	}
	key, err := parseKey(text)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = key
	return created, nil
}

func (c *Client) loadURL() error {
	if _, kid := c.identity(); kid != "" {
		return nil
	}
	url, err := c.opts.Store.AccountURL(c.holder())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kid = url
	return err
}

// newKey makes an ECDSA P-256 key, which all CAs take.
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := stdx509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads an account key; those that other clients made are often PKCS #8
// or RSA.
func parseKey(text []byte) (crypto.Signer, error) {
	bad := func(why string) error {
		return &problem.Error{Kind: problem.Usage, Message: "the account's key file " + why, Work: problem.NotDone}
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad("holds no PEM")
	}
	if key, err := stdx509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := stdx509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := stdx509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, bad("holds no private key that can be read")
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	default:
		return nil, bad(fmt.Sprintf("holds a %T: it must be ECDSA or RSA", key))
	}
}
