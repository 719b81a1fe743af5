package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 4 << 20

// Handler wraps next. name returns a request's call; "" is never hit. If a fault cuts the
// connection the handler aborts (HTTP/1) or resets the stream.
func (s *Set) Handler(name func(*http.Request) string, next http.Handler) http.Handler {
	return s.HandlerWith(name, next, answerStatus)
}

// HandlerWith is [Set.Handler] for a protocol whose errors have a form of their
// own: status answers the calls that a Status fault hits.
func (s *Set) HandlerWith(name func(*http.Request) string, next http.Handler, status func(http.ResponseWriter, *http.Request, *StatusError)) http.Handler {
	if s == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only a request whose body has been read sees its client go away.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "request body: "+err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		call := name(r)
		if call == "" {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		err = s.Do(r.Context(), call, func() error {
			// The work continues though the client is gone: that is what a server does.
			next.ServeHTTP(rec, r.WithContext(context.WithoutCancel(r.Context())))
			return nil
		})
		if bad, ok := errors.AsType[*StatusError](err); ok {
			status(w, r, bad)
			return
		}
		answer(w, rec, err)
	})
}

func answerStatus(w http.ResponseWriter, _ *http.Request, e *StatusError) {
	for k, v := range e.Header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(e.Code)
	_, _ = io.WriteString(w, e.Body)
}

func answer(w http.ResponseWriter, rec *httptest.ResponseRecorder, err error) {
	switch {
	case err == nil:
		copyAnswer(w, rec, rec.Body.Bytes())
	case errors.Is(err, ErrTruncate):
		whole := rec.Body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		copyAnswer(w, rec, whole[:len(whole)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		panic(http.ErrAbortHandler)
	}
}

func copyAnswer(w http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}
