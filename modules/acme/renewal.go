package acme

import (
	"context"
	"crypto/sha256"
	stdx509 "crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

// Renewal says whether a certificate is to be renewed, when, and why.
type Renewal struct {
	Due         bool      `lua:"due" doc:"renew it now"`
	At          time.Time `lua:"at" doc:"the moment to renew it, always the same for one certificate and window; in the past if it is due"`
	Forced      bool      `lua:"forced" doc:"it is due only because the run was started with --force"`
	Reason      string    `lua:"reason" doc:"why then, in words"`
	Source      string    `lua:"source" enum:"certificate ari renew_before lifetime" doc:"what decided"`
	WindowStart time.Time `lua:"window_start,optional" doc:"begin of the window that the CA suggests"`
	WindowEnd   time.Time `lua:"window_end,optional" doc:"end of that window"`
	Explanation string    `lua:"explanation,optional" doc:"a page of the CA's on why it suggests that window"`
	LookAgain   time.Time `lua:"look_again,optional" doc:"when to ask the CA for its window again"`
	ARIError    string    `lua:"ari_error,optional" doc:"why the CA's window could not be used, and when the CA is asked again if not in the next run: another rule decided"`
}

// RenewalOptions bound a decision.
type RenewalOptions struct {
	RenewBefore time.Duration `lua:"renew_before,optional" doc:"renew this long before the certificate expires, if the CA suggests no window"`
	Names       []string      `lua:"names,optional" doc:"the DNS names that the certificate should have; others make it due"`
}

// What the sources are called.
const (
	byCertificate = "certificate"
	byARI         = "ari"
	byRenewBefore = "renew_before"
	byLifetime    = "lifetime"
)

// retryWindow is when to ask again after a long-term error (RFC 9773 section 4.3.3).
const retryWindow = account.LongestDeferral

// Nothing but a fault makes a certificate due that was issued within the last day. The
// hour more is for CAs that date their certificates back.
const youngest = 25 * time.Hour

// Renewal decides when installed, nil if there is none, is to be renewed: at once if it
// is missing, self-signed, expired or for other names; in the window that the CA suggests
// (RFC 9773); else RenewBefore its end; else after two thirds of its lifetime, half if
// that is below 10 days. Any other answer than a window lets the next rule decide, and is
// reported: proxies, replicas that lag and CAs that forget answer so too, and whose
// certificate it is does not follow from it. Whatever decides, a certificate is left
// alone until it is a day old, or half of its lifetime if that is less: a rule that
// expects each new one back would restart an appliance every night.
func (c *Client) Renewal(ctx context.Context, installed *x509.Certificate, opts RenewalOptions) (*Renewal, error) {
	now := c.opts.Clock.Now()
	if reason := unfit(installed, opts.Names, now); reason != "" {
		return &Renewal{Due: true, At: now, Reason: reason, Source: byCertificate}, nil
	}
	leaf, err := installed.Leaf()
	if err != nil {
		return nil, err
	}
	r := &Renewal{}
	switch err := c.suggested(ctx, leaf, r); {
	case err == nil:
	case ctx.Err() != nil:
		return nil, problem.Network(ctx.Err())
	default:
		r = ownRule(leaf, opts)
		r.ARIError, r.LookAgain = err.Error(), now.Add(retryWindow)
		if later, ok := errors.AsType[*postponed](err); ok {
			r.LookAgain = later.until
		}
	}
	if from := leaf.NotBefore.Add(min(youngest, lifetime(leaf)/2)); r.At.Before(from) {
		r.At = from
		r.Reason += ", which would be within a day of its issue: not before " + moment(from)
	}
	r.Due = !r.At.After(now)
	return r, nil
}

// unfit says why cert cannot stay, "" if it can.
func unfit(cert *x509.Certificate, names []string, now time.Time) string {
	if cert == nil {
		return "there is no certificate"
	}
	want := make([]string, 0, len(names))
	for _, n := range names {
		want = append(want, strings.ToLower(n))
	}
	slices.Sort(want)
	switch {
	case cert.SelfSigned:
		return "it is self-signed"
	case !now.Before(cert.NotAfter):
		return "it expired at " + moment(cert.NotAfter)
	case len(want) > 0 && !slices.Equal(slices.Compact(want), cert.Names):
		return fmt.Sprintf("it is for other names (%s)", strings.Join(cert.Names, " "))
	default:
		return ""
	}
}

// ownRule decides without the CA.
func ownRule(leaf *stdx509.Certificate, opts RenewalOptions) *Renewal {
	life := lifetime(leaf)
	if opts.RenewBefore > 0 && opts.RenewBefore < life {
		return &Renewal{
			At: leaf.NotAfter.Add(-opts.RenewBefore), Source: byRenewBefore,
			Reason: fmt.Sprintf("renew_before asks for %s before it expires at %s", days(opts.RenewBefore), moment(leaf.NotAfter)),
		}
	}
	part, after := "two thirds", life/3*2
	if life < 10*24*time.Hour {
		part, after = "half", life/2
	}
	return &Renewal{At: leaf.NotBefore.Add(after), Source: byLifetime, Reason: fmt.Sprintf("%s of its lifetime of %s", part, days(life))}
}

// suggested fills in r from the CA's window.
func (c *Client) suggested(ctx context.Context, leaf *stdx509.Certificate, r *Renewal) error {
	id := certID(leaf)
	if id == "" {
		return &problem.Error{Kind: problem.Refused, Message: "the certificate names no authority key"}
	}
	info, err := c.renewalInfo(ctx, id)
	if err != nil {
		return err
	}
	if info.again.IsZero() {
		info.again = c.opts.Clock.Now().Add(retryWindow)
	}
	start, end := info.SuggestedWindow.Start, info.SuggestedWindow.End
	r.Source, r.WindowStart, r.WindowEnd, r.Explanation, r.LookAgain = byARI, start, end, info.ExplanationURL, info.again
	// Each certificate has an instant of its own in the window (section 4.2),
	// the same each time that it is asked for.
	seed := sha256.Sum256([]byte(id))
	part := float64(binary.BigEndian.Uint64(seed[:8])>>11) / (1 << 53)
	r.At = start.Add(time.Duration(part * float64(end.Sub(start)))).Truncate(time.Second)
	// A window at the very end leaves no time to try again.
	if last := leaf.NotAfter.Add(-lifetime(leaf) / 10); r.At.After(last) {
		r.At = last
	}
	r.Reason = fmt.Sprintf("the CA suggests %s to %s", moment(start), moment(end))
	return nil
}

type renewalInfo struct {
	acme.RenewalInfoResponse
	again time.Time
}

// postponed is the error of a question for a window that is not put again before a moment.
type postponed struct {
	error

	until time.Time
}

func (p *postponed) Error() string {
	return p.error.Error() + "; not asked again before " + moment(p.until)
}

// renewalInfo asks for the window of the certificate that id names, unless the CA's
// last answer was that there is none for now.
func (c *Client) renewalInfo(ctx context.Context, id string) (*renewalInfo, error) {
	kept, err := c.opts.Store.Deferral(c.directory.String(), id, c.opts.Clock.Now())
	if err != nil {
		logger(ctx).WarnContext(ctx, "cannot read when the CA may be asked for its renewal window", "error", err.Error())
	}
	if !kept.Until.IsZero() {
		return nil, &postponed{errors.New(kept.Error), kept.Until}
	}
	dir, err := c.getDirectory(ctx)
	if err != nil {
		return nil, err
	}
	if dir.RenewalInfo == "" {
		return nil, &problem.Error{Kind: problem.Refused, Target: c.directory.Host, Message: "the CA offers no renewal information"}
	}
	info, header, err := c.askRenewalInfo(ctx, id)
	if err != nil {
		return nil, c.postpone(ctx, id, err, header != nil)
	}
	info.again = problem.RetryAfter(header, c.opts.Clock.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[id] = true
	return info, nil
}

// askRenewalInfo puts the question; without any answer of the CA's the header is nil.
func (c *Client) askRenewalInfo(ctx context.Context, id string) (*renewalInfo, http.Header, error) {
	var info renewalInfo
	header, err := c.do(ctx, "renewal-info", "", nil, func(core *api.Core) error {
		res, err := core.Certificates.GetRenewalInfo(id)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		return json.Unmarshal(body, &info.RenewalInfoResponse)
	})
	if err != nil {
		return nil, header, err
	}
	if w := info.SuggestedWindow; w.Start.IsZero() || !w.End.After(w.Start) {
		return nil, header, &problem.Error{Kind: problem.Refused, Target: c.directory.Host, Message: "the CA's renewal window is not valid", Cause: errOdd}
	}
	return &info, header, nil
}

// postpone keeps, for later runs too, that the CA is not to be asked for this window for
// a while, and returns err with that; err alone if the next run may ask.
func (c *Client) postpone(ctx context.Context, id string, err error, answered bool) error {
	now := c.opts.Clock.Now()
	until := now.Add(retryWindow)
	if temporary(err, answered) {
		if asked := problem.From(err).RetryAfter; asked.Before(until) {
			until = asked
		}
	}
	if !until.After(now) {
		return err
	}
	d := account.Deferral{Until: until, Error: err.Error()}
	if lost := c.opts.Store.SaveDeferral(c.directory.String(), id, d, now); lost != nil {
		logger(ctx).WarnContext(ctx, "cannot keep when the CA may be asked for its renewal window again: the next run asks", "error", lost.Error())
		return err
	}
	return &postponed{err, until}
}

// temporary reports whether an error of a question for a window is one that may be gone
// at the next question (RFC 9773 section 4.3.3). A refusal by a proxy does not count as
// an answer.
func temporary(err error, answered bool) bool {
	e := problem.From(err)
	switch {
	case errors.Is(err, errOdd):
		return false
	case !answered, e.Status == 0:
		return true
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests, e.Status >= http.StatusInternalServerError:
		return true
	default:
		return isType(err, "rateLimited", "serverInternal")
	}
}

// certID returns a certificate's ARI identifier (RFC 9773 section 4.1), "" if it names no
// authority key.
func certID(leaf *stdx509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 {
		return ""
	}
	der, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil || len(der) < 3 {
		return ""
	}
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		return ""
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(leaf.AuthorityKeyId) + "." + enc.EncodeToString(raw.Bytes)
}

// replaces returns the ARI identifier of old if it was issued here or the CA knows it,
// else "".
func (c *Client) replaces(ctx context.Context, dir *cachedDirectory, old *x509.Certificate, kept bool) string {
	if old == nil || old.SelfSigned || dir.RenewalInfo == "" {
		return ""
	}
	leaf, err := old.Leaf()
	if err != nil {
		return ""
	}
	id := certID(leaf)
	c.mu.Lock()
	known := c.known[id]
	c.mu.Unlock()
	if id == "" || known || kept {
		return id
	}
	if _, err := c.renewalInfo(ctx, id); err != nil {
		return ""
	}
	return id
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 || d > 10*24*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24+0.5))
	}
	return d.Round(time.Minute).String()
}
