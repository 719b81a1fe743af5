package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
)

// Client speaks the control API of a lab, which may run in another process. It
// makes no retries; each call is bounded by its context alone.
type Client struct {
	URL  string       // the lab's control.url
	HTTP *http.Client // http.DefaultClient when nil
}

// Open returns a client for the lab that runs in dir.
func Open(dir string) (*Client, error) {
	text, err := os.ReadFile(filepath.Join(dir, controlFile))
	if err != nil {
		return nil, fmt.Errorf("lab: no lab runs here: %w", err)
	}
	return &Client{URL: strings.TrimSpace(string(text))}, nil
}

// Ledger returns what happened so far.
func (c *Client) Ledger(ctx context.Context) (*Ledger, error) {
	var l Ledger
	return &l, c.call(ctx, http.MethodGet, "/ledger", nil, &l)
}

// Calls names all calls that a fault can hit.
func (c *Client) Calls(ctx context.Context) (names []string, err error) {
	err = c.call(ctx, http.MethodGet, "/calls", nil, &names)
	return names, err
}

// AddFault adds a fault and returns its id.
func (c *Client) AddFault(ctx context.Context, f faults.Fault) (int, error) {
	var added struct{ ID int }
	err := c.call(ctx, http.MethodPost, "/faults", f, &added)
	return added.ID, err
}

// Faults lists the faults, oldest first.
func (c *Client) Faults(ctx context.Context) (list []faults.Fault, err error) {
	err = c.call(ctx, http.MethodGet, "/faults", nil, &list)
	return list, err
}

// Fault returns one fault.
func (c *Client) Fault(ctx context.Context, id int) (f faults.Fault, err error) {
	err = c.call(ctx, http.MethodGet, faultPath(id), nil, &f)
	return f, err
}

// WaitHeld waits until a fault holds a call.
func (c *Client) WaitHeld(ctx context.Context, id int) error {
	return c.call(ctx, http.MethodGet, faultPath(id)+"?wait=held", nil, nil)
}

// Release lets go of what a fault holds, now and later.
func (c *Client) Release(ctx context.Context, id int) error {
	return c.call(ctx, http.MethodPost, faultPath(id)+"/release", nil, nil)
}

// ClearFaults removes all faults and releases what they hold.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.call(ctx, http.MethodDelete, "/faults", nil, nil)
}

func faultPath(id int) string { return "/faults/" + strconv.Itoa(id) }

// Node returns the state of a node, by its fully qualified name.
func (c *Client) Node(ctx context.Context, fqdn string) (*NodeState, error) {
	var s NodeState
	return &s, c.call(ctx, http.MethodGet, "/cucm/"+fqdn, nil, &s)
}

// ChangeNode changes a node and returns its new state.
func (c *Client) ChangeNode(ctx context.Context, fqdn string, change NodeChange) (*NodeState, error) {
	var s NodeState
	return &s, c.call(ctx, http.MethodPost, "/cucm/"+fqdn, change, &s)
}

// Configure changes the behavior of a node. It reads, changes and writes: two at
// a time may lose one's change.
func (c *Client) Configure(ctx context.Context, fqdn string, change func(*cucmtest.Behavior)) error {
	s, err := c.Node(ctx, fqdn)
	if err != nil {
		return err
	}
	change(&s.Behavior)
	whole, err := json.Marshal(s.Behavior)
	if err != nil {
		return err
	}
	_, err = c.ChangeNode(ctx, fqdn, NodeChange{Reset: true, Behavior: whole})
	return err
}

// DNS returns the zone's records.
func (c *Client) DNS(ctx context.Context) (*DNSState, error) {
	var s DNSState
	return &s, c.call(ctx, http.MethodGet, "/dns", nil, &s)
}

// ChangeDNS changes the zone and returns its records.
func (c *Client) ChangeDNS(ctx context.Context, change DNSChange) (*DNSState, error) {
	var s DNSState
	return &s, c.call(ctx, http.MethodPost, "/dns", change, &s)
}

// ChangeACME fixes a certificate's renewal window.
func (c *Client) ChangeACME(ctx context.Context, change ACMEChange) error {
	return c.call(ctx, http.MethodPost, "/acme", change, nil)
}

// maxAnswer bounds an answer of the control API, in bytes: a lab may have run long.
const maxAnswer = 64 << 20

// call sends in as JSON, unless it is nil, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	fail := func(err error) error { return fmt.Errorf("lab: %s %s: %w", method, path, err) }
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fail(err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return fail(err)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fail(refused(resp.Status, data))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fail(err)
	}
	return nil
}

// refused returns the error that the control API answered.
func refused(status string, body []byte) error {
	var answer struct{ Error string }
	if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
		return fmt.Errorf("answered %s", status)
	}
	return fmt.Errorf("%s (%s)", answer.Error, status)
}
