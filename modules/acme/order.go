package acme

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// Order is an order as the CA showed it last (RFC 8555 section 7.1.3).
type Order struct {
	URL         string      `lua:"url" doc:"the order's URL: all else can be asked for again with it"`
	Status      string      `lua:"status" enum:"pending ready processing valid invalid" doc:"how far the CA is with it"`
	Expires     time.Time   `lua:"expires,optional" doc:"when the CA abandons it"`
	Names       []string    `lua:"names" doc:"the DNS names that it is for, sorted"`
	Profile     string      `lua:"profile,optional" doc:"the CA's certificate profile"`
	Replaces    string      `lua:"replaces,optional" doc:"ARI identifier of the certificate that it replaces, if the CA took that"`
	Challenges  []Challenge `lua:"challenges" doc:"one for each name that is still to be proven"`
	Finalize    string      `lua:"finalize" doc:"URL that the signing request goes to"`
	Certificate string      `lua:"certificate,optional" doc:"the certificate's URL once it is valid"`
	Problems    []Problem   `lua:"problems" doc:"what the CA found wrong so far"`
}

// Challenge is what has to be published to prove one name (section 8.4).
type Challenge struct {
	Identifier    string `lua:"identifier" doc:"the name that it proves, without *."`
	Wildcard      bool   `lua:"wildcard" doc:"it is for *.identifier"`
	Type          string `lua:"type" doc:"dns-01"`
	Name          string `lua:"name" doc:"the TXT record's name, fully qualified with its last dot"`
	Value         string `lua:"value" doc:"the TXT record's value"`
	URL           string `lua:"url" doc:"the challenge's URL"`
	Authorization string `lua:"authorization" doc:"the authorization's URL"`
	Status        string `lua:"status" enum:"pending processing valid invalid" doc:"how far the CA is with it"`
	Token         string `lua:"token" doc:"the CA's token"`
}

// OrderRequest says what to order.
type OrderRequest struct {
	CSR      *x509.CSR         `lua:"csr" doc:"the signing request; the order is for exactly its DNS names"`
	Replaces *x509.Certificate `lua:"replaces,optional" doc:"the certificate that this one takes the place of (RFC 9773 section 5)"`
	Profile  string            `lua:"profile,optional" doc:"instead of the CA's profile"`
}

// Order places an order. A certificate to be replaced is named only if the CA knows it;
// if the CA will not have it replaced, the order goes without (see [Order.Replaces]).
// Placing an order twice does no harm: the first one expires. With an error may come an
// order that holds its URL only: it is placed, but could not be looked at.
func (c *Client) Order(ctx context.Context, acct *Account, req OrderRequest) (*Order, error) {
	if err := CheckCSR(req.CSR); err != nil {
		return nil, err
	}
	return c.place(ctx, acct, req, false)
}

// granted refuses names that the playbook may have no certificate for.
func (c *Client) granted(names []string) error {
	for _, name := range names {
		if err := c.opts.Granted(name); err != nil {
			return err
		}
	}
	return nil
}

// place places an order for a CSR that was checked. kept says that the certificate to
// be replaced is one that was issued here.
func (c *Client) place(ctx context.Context, acct *Account, req OrderRequest, kept bool) (*Order, error) {
	if err := c.granted(req.CSR.Names); err != nil {
		return nil, err
	}
	dir, err := c.getDirectory(ctx)
	if err != nil {
		return nil, err
	}
	opts := &api.OrderOptions{}
	if opts.Profile, err = c.profile(dir, req.Profile); err != nil {
		return nil, err
	}
	opts.ReplacesCertID = c.replaces(ctx, dir, req.Replaces, kept)
	placed, err := c.newOrder(ctx, acct, req.CSR.Names, opts)
	if isType(err, accountDoesNotExist) {
		// The CA has lost its memory: the same key, registered again.
		if err := c.register(ctx, true); err != nil {
			return nil, err
		}
		placed, err = c.newOrder(ctx, acct, req.CSR.Names, opts)
	}
	if e := problem.From(err); opts.ReplacesCertID != "" && e != nil &&
		(isType(err, malformed, "unauthorized", "alreadyReplaced", "serverInternal") || e.Status == http.StatusNotFound || e.Status == http.StatusConflict) {
		opts.ReplacesCertID = ""
		placed, err = c.newOrder(ctx, acct, req.CSR.Names, opts)
	}
	if err != nil {
		return nil, err
	}
	order, err := c.complete(ctx, acct, placed)
	if err != nil {
		// It is placed all the same: Get returns the rest.
		return &Order{URL: placed.Location}, unsure(err)
	}
	return order, nil
}

// Get returns an order as the CA has it now.
func (c *Client) Get(ctx context.Context, acct *Account, orderURL string) (*Order, error) {
	o, _, err := c.getOrder(ctx, acct, orderURL)
	if err != nil {
		return nil, err
	}
	return c.complete(ctx, acct, o)
}

// isFor returns a Mismatch if an order is for other names than csr.
func isFor(o *Order, csr *x509.CSR) error {
	if slices.Equal(o.Names, csr.Names) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Mismatch, Target: o.URL, Work: problem.NotDone,
		Message: fmt.Sprintf("the order's names (%s) are not the signing request's names (%s)", quoted(o.Names), quoted(csr.Names)),
	}
}

// quoted lists names that another side chose.
func quoted(names []string) string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, strings.Trim(strconv.Quote(name), `"`))
	}
	return strings.Join(out, " ")
}

// isOf reports, as a Mismatch, that an authorization is for a name that its order is
// not for: its challenge is not to be published.
func isOf(a acme.Authorization, o *Order) error {
	name := strings.ToLower(a.Identifier.Value)
	if a.Wildcard {
		name = "*." + name
	}
	if a.Identifier.Type == "dns" && slices.Contains(o.Names, name) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Mismatch, Target: o.URL, Work: problem.NotDone,
		Message: fmt.Sprintf("the CA asks for a proof of %s %q, which the order (%s) is not for", a.Identifier.Type, name, quoted(o.Names)),
	}
}

// CheckCSR reports, as a Mismatch, why no certificate for exactly the names of
// csr can be had by DNS challenges.
func CheckCSR(csr *x509.CSR) error {
	if csr == nil {
		return &problem.Error{Kind: problem.Usage, Message: "no signing request given"}
	}
	req, err := csr.Request()
	if err != nil {
		return err
	}
	mismatch := func(message, hint string) error {
		return &problem.Error{Kind: problem.Mismatch, Target: csr.Host, Message: message, Hint: hint, Work: problem.NotDone}
	}
	strange := slices.DeleteFunc(x509.CommonNames(req), func(cn string) bool { return cn == "" || slices.Contains(csr.Names, strings.ToLower(cn)) })
	switch {
	case !x509.OnlyDNSNames(req):
		return mismatch("the signing request has alternative names that are not DNS names", "make it with DNS names only")
	case len(csr.Names) == 0:
		return mismatch("the signing request has no alternative names (SAN)", "make it with the names that clients use")
	case len(strange) > 0:
		return mismatch(fmt.Sprintf("the signing request's common name %q is not among its alternative names (%s)", strange[0], quoted(csr.Names)),
			"a CA would add it, and the certificate would not fit any more. A multi-server request gets a common name that ends in -ms: set common_name to a node's full name")
	}
	return nil
}

// profile chooses the certificate profile, and checks that the CA has it.
func (c *Client) profile(dir *cachedDirectory, asked string) (string, error) {
	want := asked
	if want == "" {
		want = c.ca.Profile
	}
	_, known := dir.Meta.Profiles[want]
	switch {
	case want == "" && c.ca.letsEncrypt(c.directory):
		if _, ok := dir.Meta.Profiles["classic"]; ok {
			return "classic", nil
		}
		return "", nil
	case want == "" || known:
		return want, nil
	}
	var names []string
	for name := range dir.Meta.Profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	e := &problem.Error{Kind: problem.Usage, Target: c.directory.Host, Message: fmt.Sprintf("the CA has no profile %q", want), Work: problem.NotDone}
	if len(names) > 0 {
		e.Hint = "it has " + strings.Join(names, ", ")
	}
	return "", e
}

// replacingOrder is what an order is called that names the certificate it replaces: a
// 404 may be about that one, and says nothing of a replica that is behind.
const replacingOrder = "new-order with replaces"

// newOrder returns the order without its challenges.
func (c *Client) newOrder(ctx context.Context, acct *Account, names []string, opts *api.OrderOptions) (*acme.ExtendedOrder, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, err
	}
	what := "new-order"
	if opts.ReplacesCertID != "" {
		what = replacingOrder
	}
	var placed acme.ExtendedOrder
	_, err = c.do(ctx, what, kid, key, func(core *api.Core) (err error) {
		placed, err = core.Orders.NewWithOptions(names, opts)
		return err
	})
	if err == nil && placed.Location == "" {
		err = &problem.Error{Kind: problem.Unavailable, Target: c.directory.Host, Message: "the CA returned no order URL", Work: problem.Unknown}
	}
	return &placed, err
}

// getOrder reads an order; the header says when to ask again.
func (c *Client) getOrder(ctx context.Context, acct *Account, orderURL string) (*acme.ExtendedOrder, http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, nil, err
	}
	var o acme.ExtendedOrder
	header, err := c.do(ctx, "order", kid, key, func(core *api.Core) (err error) {
		o, err = core.Orders.Get(orderURL)
		return err
	})
	o.Location = orderURL
	if e := problem.From(err); e != nil {
		if e.Kind == problem.NotFound || isType(err, accountDoesNotExist) || e.Status == http.StatusNotFound {
			gone := *e
			gone.Kind, gone.Message, gone.Hint = problem.OrderGone, "the CA does not know this order (any more)", "a new run places a new one"
			return nil, nil, &gone
		}
		return nil, nil, err
	}
	return &o, header, nil
}

// complete returns o as plain data, with the challenges of what is still pending,
// and remembers it.
func (c *Client) complete(ctx context.Context, acct *Account, o *acme.ExtendedOrder) (*Order, error) {
	out := plain(o)
	if o.Status != acme.StatusPending && o.Status != acme.StatusInvalid {
		c.remember(out)
		return out, nil
	}
	authz, err := c.getAuthorizations(ctx, acct, o.Authorizations)
	if err != nil {
		return nil, err
	}
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, err
	}
	core, done, err := c.core(&exchange{c: c, ctx: ctx, what: "the directory"}, kid, key)
	if err != nil {
		return nil, problem.From(err)
	}
	defer done()
	for i, a := range authz {
		if err := isOf(a, out); err != nil {
			return nil, err
		}
		out.update(a)
		if a.Status != acme.StatusPending || o.Status != acme.StatusPending {
			continue
		}
		ch, err := challenge(core.GetKeyAuthorization, o.Authorizations[i], a)
		if err != nil {
			return nil, err
		}
		out.Challenges = append(out.Challenges, ch)
	}
	if out.Status == acme.StatusInvalid {
		out.Challenges = []Challenge{}
	}
	slices.SortFunc(out.Challenges, func(a, b Challenge) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	c.remember(out)
	return out, nil
}

func plain(o *acme.ExtendedOrder) *Order {
	out := &Order{
		URL: o.Location, Status: o.Status, Names: []string{}, Profile: o.Profile, Replaces: o.Replaces,
		Finalize: o.Finalize, Certificate: o.Certificate, Challenges: []Challenge{}, Problems: []Problem{},
	}
	out.Expires, _ = time.Parse(time.RFC3339, o.Expires) // zero if the CA names none
	for _, id := range o.Identifiers {
		out.Names = append(out.Names, strings.ToLower(id.Value))
	}
	slices.Sort(out.Names)
	if o.Error != nil {
		out.Problems = append(out.Problems, *fromDocument(o.Error))
	}
	return out
}
