package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Daemon is what the server serves.
type Daemon interface {
	Status(ctx context.Context) (*Status, error)
	// Records returns the readable part of the journal.
	Records() Records
	Run(ctx context.Context, by string, r RunRequest) (*RunReply, error)
	Decisions
	Pause(ctx context.Context, by string, r PauseRequest) error
	// ForgetPlaybook forgets a playbook whose script is gone.
	ForgetPlaybook(ctx context.Context, by string, r ForgetRequest) error
	Reload(ctx context.Context) (*ReloadReply, error)
	Backup(ctx context.Context, w io.Writer) error
	// Examine examines all that playbooks name, and changes nothing.
	Examine(ctx context.Context) ([]bind.Finding, error)
	// TestAlerts sends a test alert to all services, and a heartbeat.
	TestAlerts(ctx context.Context) (*AlertReply, error)
	// SecretNames returns the names of the secrets that scripts and config use.
	SecretNames(ctx context.Context) ([]string, error)
	// Secret returns whether the daemon finds a secret, never its value.
	Secret(ctx context.Context, name string) SecretState
	// Follow calls each for the run's records until it has ended or stopped, or ctx ends.
	Follow(ctx context.Context, run string, each func(journal.Record) error) (*journal.Run, error)
}

// Decisions are the decisions about a run; by is the user who decides.
type Decisions interface {
	Cancel(ctx context.Context, run, by string, d Decision) (*journal.Run, error)
	// Approve and Deny decide about a run that waits for approval.
	Approve(ctx context.Context, run, by string, d Decision) (*journal.Run, error)
	Deny(ctx context.Context, run, by string, d Decision) (*journal.Run, error)
	// Resume resumes a parked run.
	Resume(ctx context.Context, run, by string, d Decision) (*journal.Run, error)
	// Unlock releases the locks of a run that waits or is parked, and returns their names.
	Unlock(ctx context.Context, run, by string, d Decision) ([]string, error)
	// Cleanup retries the pending undos of a run that has ended.
	Cleanup(ctx context.Context, run, by string) error
	// Forget abandons them, and returns them.
	Forget(ctx context.Context, run, by string) ([]journal.Undo, error)
}

// Serve serves on l until ctx ends, then finishes what is under way for at most a second.
// Each answer has the build of the program, for clients of another one.
func Serve(ctx context.Context, l net.Listener, d Daemon, build string, log *slog.Logger) error {
	s := &server{daemon: d, log: log}
	srv := &http.Server{
		Handler: named(build, whole(s, readTimeout, s.routes())), ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid := -1
			if known, ok := c.(*counted); ok {
				uid = known.uid
			}
			return context.WithValue(ctx, peerKey{}, uid)
		},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(limitConns(l, connLimit())) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := srv.Shutdown(bound)
	if err != nil {
		err = srv.Close()
	}
	if end := <-served; err == nil && !errors.Is(end, http.ErrServerClosed) {
		err = end
	}
	return err
}

// named adds the build to each answer.
func named(build string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(buildHeader, build)
		next.ServeHTTP(w, r)
	})
}

type peerKey struct{}

// peer returns the uid of a connection's peer, -1 if it is not known.
func peer(c net.Conn) int {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}

// who returns the user behind a request.
func who(r *http.Request) string {
	uid, ok := r.Context().Value(peerKey{}).(int)
	if !ok {
		uid = -1
	}
	sudo := r.Header.Get(userHeader)
	if len(sudo) > mostName || strings.ContainsFunc(sudo, func(c rune) bool { return c <= ' ' || c > '~' }) {
		sudo = ""
	}
	return Who(uid, sudo)
}

// mostName bounds a user's name, in bytes (useradd(8)).
const mostName = 256

// Who returns the name of the user with this uid; sudo is the user behind it if it is root.
func Who(uid int, sudo string) string {
	name := "uid " + strconv.Itoa(uid)
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	if uid == 0 && sudo != "" && sudo != name {
		return sudo + " (as " + name + ")"
	}
	return name
}

type server struct {
	daemon Daemon
	log    *slog.Logger
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	handle(mux, s, "GET /status", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) { return s.daemon.Status(ctx) })
	handle(mux, s, "POST /run", func(ctx context.Context, r *http.Request, in RunRequest) (any, error) {
		return s.daemon.Run(ctx, who(r), in)
	})
	handle(mux, s, "POST /pause", func(ctx context.Context, r *http.Request, in PauseRequest) (any, error) {
		return done(s.daemon.Pause(ctx, who(r), in))
	})
	handle(mux, s, "POST /forget", func(ctx context.Context, r *http.Request, in ForgetRequest) (any, error) {
		return done(s.daemon.ForgetPlaybook(ctx, who(r), in))
	})
	handle(mux, s, "POST /reload", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) { return s.daemon.Reload(ctx) })
	decide(mux, s, "cancel", s.daemon.Cancel)
	decide(mux, s, "approve", s.daemon.Approve)
	decide(mux, s, "deny", s.daemon.Deny)
	decide(mux, s, "resume", s.daemon.Resume)
	decide(mux, s, "unlock", func(ctx context.Context, run, by string, d Decision) (List[string], error) {
		return s.daemon.Unlock(ctx, run, by, d)
	})
	decide(mux, s, "cleanup", func(ctx context.Context, run, by string, _ Decision) (struct{}, error) {
		return struct{}{}, s.daemon.Cleanup(ctx, run, by)
	})
	decide(mux, s, "forget", func(ctx context.Context, run, by string, _ Decision) (List[journal.Undo], error) {
		return s.daemon.Forget(ctx, run, by)
	})
	handle(mux, s, "POST /alerts/test", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) { return s.daemon.TestAlerts(ctx) })
	handle(mux, s, "GET /secrets", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return listed(s.daemon.SecretNames(ctx))
	})
	handle(mux, s, "GET /secrets/{name}", func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return s.daemon.Secret(ctx, r.PathValue("name")), nil
	})
	handle(mux, s, "GET /examine", func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return listed(s.daemon.Examine(ctx))
	})
	s.records(mux)
	mux.HandleFunc("GET /runs/{run}/follow", s.follow)
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		if err := s.daemon.Backup(r.Context(), w); err != nil {
			s.log.Error("backup failed", "error", err.Error())
			panic(http.ErrAbortHandler) // half a copy must not look complete
		}
	})
	return mux
}

func done(err error) (any, error) { return struct{}{}, err }

// listed returns a list as a reply, which is not null if it is empty.
func listed[T any](items []T, err error) (any, error) { return List[T](items), err }

// decide serves a decision about a run.
func decide[T any](mux *http.ServeMux, s *server, verb string, do func(ctx context.Context, run, by string, d Decision) (T, error)) {
	handle(mux, s, "POST /runs/{run}/"+verb, func(ctx context.Context, r *http.Request, d Decision) (any, error) {
		return do(ctx, r.PathValue("run"), who(r), d)
	})
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 64 << 10

// handle serves one route whose request is a T.
func handle[T any](mux *http.ServeMux, s *server, pattern string, do func(context.Context, *http.Request, T) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in T
		if r.Method == http.MethodPost {
			dec := json.NewDecoder(r.Body)
			dec.DisallowUnknownFields()
			if err := dec.Decode(&in); err != nil {
				s.fail(w, &problem.Error{Kind: problem.Usage, Message: "malformed JSON request: " + err.Error()})
				return
			}
		}
		out, err := do(r.Context(), r, in)
		if r.Method == http.MethodPost {
			s.logRequest(r, in, err)
		}
		if err != nil {
			s.fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(out); err != nil {
			s.log.Debug("answer not sent", "error", err.Error())
		}
	})
}

// logRequest logs a request that changes something: by whom, and whether it was refused.
func (s *server) logRequest(r *http.Request, in any, err error) {
	args := []any{"what", r.URL.Path, "by", who(r)}
	if a, ok := in.(interface{ attrs() []slog.Attr }); ok {
		for _, attr := range a.attrs() {
			if attr.Value.String() != "" {
				args = append(args, attr)
			}
		}
	}
	if err != nil {
		s.log.Warn("request refused", append(args, "error", err.Error())...)
		return
	}
	s.log.Info("request", args...)
}

func (s *server) fail(w http.ResponseWriter, err error) {
	e := problem.From(err)
	status := http.StatusInternalServerError
	switch e.Kind {
	case problem.NotFound:
		status = http.StatusNotFound
	case problem.Usage:
		status = http.StatusBadRequest
	case problem.Conflict:
		status = http.StatusConflict
	case problem.Unavailable:
		status = http.StatusServiceUnavailable
	default: // an error of this side
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(failure{e}); err != nil {
		s.log.Debug("answer not sent", "error", err.Error())
	}
}

func (s *server) follow(w http.ResponseWriter, r *http.Request) {
	started := false
	enc := json.NewEncoder(w)
	send := func(e Event) error {
		started = true
		if err := enc.Encode(e); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	}
	run, err := s.daemon.Follow(r.Context(), r.PathValue("run"), func(rec journal.Record) error {
		raw, err := journal.Encode(rec)
		if err != nil {
			return fmt.Errorf("follow: %w", err)
		}
		return send(Event{Record: raw})
	})
	switch {
	case err == nil:
		_ = send(Event{Run: run})
	case !started:
		s.fail(w, err)
	}
}
