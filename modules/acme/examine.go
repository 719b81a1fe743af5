package acme

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// Skew returns by how much the CA's clock is ahead of this machine's; 0 if it sends no
// time (RFC 9110 section 6.6.1).
func (c *Client) Skew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.directory.String(), nil)
	if err != nil {
		return 0, err
	}
	res, err := (&http.Client{Transport: c.transport}).Do(req)
	if err != nil {
		return 0, problem.At(problem.Network(err), "", c.directory.String())
	}
	defer func() { _ = res.Body.Close() }()
	at, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, nil // it sends no time
	}
	return at.Sub(c.opts.Clock.Now()), nil
}

// maxSkew is how far this machine's clock may be from a CA's.
const maxSkew = time.Minute

// examine reads a CA's directory, and compares clocks.
func (b *binding) examine(c *bind.Call, ca *CA, _ []string) []bind.Finding {
	client, err := b.client(c, ca)
	if err != nil {
		return []bind.Finding{{What: "CA " + ca.Directory, Error: problem.From(err)}}
	}
	f := bind.Finding{What: "CA " + client.directory.String(), Note: "directory reachable"}
	if _, err := client.getDirectory(c.Context); err != nil {
		f.Error, f.Note = problem.From(err), ""
		return []bind.Finding{f}
	}
	clock := bind.Finding{What: "clock", Note: fmt.Sprintf("within %s of that of %s", maxSkew, client.directory.Host)}
	skew, err := client.Skew(c.Context)
	switch {
	case err != nil:
		clock.Error = problem.From(err)
	case skew.Abs() > maxSkew:
		clock.Error = &problem.Error{
			Kind: problem.Usage, Message: fmt.Sprintf("it is %s off from the clock of %s", skew.Round(time.Second), client.directory.Host),
			Hint: "set it, and let NTP keep it: timedatectl set-ntp true",
		}
	}
	return []bind.Finding{f, clock}
}
