package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// ErrNoDaemon is the error of a socket without a listener.
var ErrNoDaemon = errors.New("no daemon is running")

// Client sends requests to a daemon. It is safe for concurrent use.
type Client struct {
	socket string
	user   string // behind sudo
	http   *http.Client
	build  string // of this program; "" compares none
	differ func(build string)
}

// buildHeader is the header of answers with the daemon's build.
const buildHeader = "Moonseal-Build"

// Of returns a client that calls differ, with the daemon's build, for each answer of a
// daemon of another build than the given one. A daemon from before there were builds has
// "".
func (c *Client) Of(build string, differ func(build string)) *Client {
	of := *c
	of.build, of.differ = build, differ
	return &of
}

// userHeader is the header with the user behind sudo. It counts if the peer is root.
const userHeader = "Moonseal-User"

// As returns a client that acts for a user if it runs as root; "" is for none.
func (c *Client) As(user string) *Client {
	as := *c
	as.user = user
	return &as
}

// Dial returns a client for the daemon behind socket. It does not connect yet.
func Dial(socket string) *Client {
	dialer := &net.Dialer{}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status returns the status of all playbooks.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/status")
}

// Run starts a run, or makes an unfinished one continue now.
func (c *Client) Run(ctx context.Context, r RunRequest) (*RunReply, error) {
	return post[RunReply](ctx, c, "/run", r)
}

// Cancel cancels a run, which then cleans up.
func (c *Client) Cancel(ctx context.Context, run string, d Decision) (*journal.Run, error) {
	return act[journal.Run](ctx, c, run, "cancel", d)
}

// Approve approves what a run waits for.
func (c *Client) Approve(ctx context.Context, run string, d Decision) (*journal.Run, error) {
	return act[journal.Run](ctx, c, run, "approve", d)
}

// Deny denies it.
func (c *Client) Deny(ctx context.Context, run string, d Decision) (*journal.Run, error) {
	return act[journal.Run](ctx, c, run, "deny", d)
}

// Resume resumes a parked run.
func (c *Client) Resume(ctx context.Context, run string, d Decision) (*journal.Run, error) {
	return act[journal.Run](ctx, c, run, "resume", d)
}

// Unlock releases the locks of a run that waits or is parked, and returns their names.
func (c *Client) Unlock(ctx context.Context, run string, d Decision) ([]string, error) {
	return all(act[[]string](ctx, c, run, "unlock", d))
}

// Cleanup retries the pending undos of a run that has ended.
func (c *Client) Cleanup(ctx context.Context, run string) error {
	_, err := act[struct{}](ctx, c, run, "cleanup", Decision{})
	return err
}

// Forget abandons the pending undos of a run that has ended, and returns them.
func (c *Client) Forget(ctx context.Context, run string) ([]journal.Undo, error) {
	return all(act[[]journal.Undo](ctx, c, run, "forget", Decision{}))
}

func act[T any](ctx context.Context, c *Client, run, what string, d Decision) (*T, error) {
	return post[T](ctx, c, "/runs/"+url.PathEscape(run)+"/"+what, d)
}

func all[T any](list *[]T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// answerTime is how long a daemon has to answer anything at all.
const answerTime = 5 * time.Second

// Reach returns nil if a daemon answers on the socket, else why none does. It is nil too
// if the socket cannot be used, for want of rights for instance: the next request returns
// that error. The connection is kept for that request.
func (c *Client) Reach(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodGet, "http://moonseal/", nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	switch {
	case err == nil: // even that there is no such page is an answer
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxLine))
		return res.Body.Close()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case bounded.Err() != nil:
		return &problem.Error{
			Kind: problem.Timeout, Target: c.socket, Message: "the daemon does not answer within " + answerTime.String(), Cause: err,
			Hint: "systemctl status moonseal shows whether it is stopped or overloaded",
		}
	}
	if err := c.failed(err); problem.HasCode(err, problem.NeedsDaemon) {
		return err
	}
	return nil
}

// Pause pauses a playbook, or all.
func (c *Client) Pause(ctx context.Context, r PauseRequest) error {
	_, err := post[struct{}](ctx, c, "/pause", r)
	return err
}

// ForgetPlaybook forgets a playbook whose script is gone.
func (c *Client) ForgetPlaybook(ctx context.Context, r ForgetRequest) error {
	_, err := post[struct{}](ctx, c, "/forget", r)
	return err
}

// Reload reads config and scripts again.
func (c *Client) Reload(ctx context.Context) (*ReloadReply, error) {
	return post[ReloadReply](ctx, c, "/reload", struct{}{})
}

// TestAlerts makes the daemon send a test alert.
func (c *Client) TestAlerts(ctx context.Context) (*AlertReply, error) {
	return post[AlertReply](ctx, c, "/alerts/test", struct{}{})
}

// SecretNames returns the names of the secrets that scripts and config use.
func (c *Client) SecretNames(ctx context.Context) ([]string, error) {
	return getAll[string](ctx, c, "/secrets")
}

// Secret returns whether the daemon finds a secret.
func (c *Client) Secret(ctx context.Context, name string) (*SecretState, error) {
	return get[SecretState](ctx, c, "/secrets/"+url.PathEscape(name))
}

// Examine makes the daemon examine all that playbooks name.
func (c *Client) Examine(ctx context.Context) ([]bind.Finding, error) {
	return getAll[bind.Finding](ctx, c, "/examine")
}

// Backup writes a copy of the journal, as it is at one moment, to w.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	res, err := c.do(ctx, http.MethodGet, "/backup", nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(w, res.Body)
	return err
}

// Follow calls each for a run's records from now on, until the run has ended or stopped,
// and returns the run as it is then.
func (c *Client) Follow(ctx context.Context, run string, each func(journal.Record)) (*journal.Run, error) {
	res, err := c.do(ctx, http.MethodGet, "/runs/"+url.PathEscape(run)+"/follow", nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the daemon's answer: %w", err)
		}
		if e.Run != nil {
			return e.Run, nil
		}
		rec, err := journal.Decode(e.Record)
		if err != nil {
			return nil, err
		}
		each(rec)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("the daemon's answer: %w", err)
	}
	// The connection is gone: the daemon stops, or was killed.
	return nil, &problem.Error{
		Kind: problem.Unavailable, Message: "the daemon stopped; the run continues when it is back", Cause: ctx.Err(),
		Hint: "systemctl status moonseal shows why; moonseal run follows the run again",
	}
}

// maxLine bounds one line of an answer, in bytes.
const maxLine = 16 << 20

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return answer[T](c.do(ctx, http.MethodGet, path, nil)) //nolint:bodyclose // answer does
}

func post[T any](ctx context.Context, c *Client, path string, body any) (*T, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return answer[T](c.do(ctx, http.MethodPost, path, raw)) //nolint:bodyclose // answer does
}

func answer[T any](res *http.Response, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	out := new(T)
	if err := json.NewDecoder(io.LimitReader(res.Body, maxLine)).Decode(out); err != nil {
		return nil, fmt.Errorf("the daemon's answer: %w", err)
	}
	return out, nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://moonseal"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.user != "" {
		req.Header.Set(userHeader, c.user)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	if theirs := res.Header.Get(buildHeader); c.build != "" && theirs != c.build {
		c.differ(theirs)
	}
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	var f failure
	if err := json.NewDecoder(io.LimitReader(res.Body, maxLine)).Decode(&f); err != nil || f.Error == nil {
		return nil, &problem.Error{Kind: problem.Internal, Target: c.socket, Message: "the daemon answered " + res.Status}
	}
	return nil, f.Error
}

func (c *Client) failed(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return &problem.Error{
			Kind: problem.Unavailable, Code: problem.NeedsDaemon, Target: c.socket, Message: ErrNoDaemon.Error(), Cause: ErrNoDaemon,
			Hint: "systemctl start moonseal, or moonseal serve",
		}
	case errors.Is(err, fs.ErrPermission):
		return &problem.Error{Kind: problem.Auth, Target: c.socket, Message: "permission denied on the daemon's socket", Hint: "use sudo, or be in the socket's group", Cause: err}
	default:
		return problem.Network(err)
	}
}
