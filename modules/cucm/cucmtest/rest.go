package cucmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// Calls that a faults.Set can hit.
const (
	CallCSR            = "cucm.csr"
	CallPendingCSR     = "cucm.pending-csr"
	CallUploadIdentity = "cucm.upload-identity"
	CallUploadTrust    = "cucm.upload-trust"
	CallTrust          = "cucm.trust"
	CallIdentity       = "cucm.identity"
	CallSnapshot       = "cucm.snapshot"
	CallSSHLogin       = "cucm.ssh-login" // the SSH connection, before its first byte
	CallRestart        = "cucm.restart"   // the restart command, once its line is typed; the work is the restart's beginning
	CallServices       = "cucm.services"  // utils service list
)

// Calls names all calls that a faults.Set can hit.
func Calls() []string {
	return []string{CallCSR, CallPendingCSR, CallUploadIdentity, CallUploadTrust, CallTrust, CallIdentity, CallSnapshot, CallSSHLogin, CallRestart, CallServices}
}

const (
	basePath = "/platformcom/api/v1/certmgr/config/"
	maxBody  = 1 << 20 // bytes
)

// apiError is a refusal of the API.
type apiError struct {
	status   int
	messages []string
}

func refuse(status int, messages ...string) *apiError { return &apiError{status, messages} }

// route is one call of the API. A handler returns the status and the body of its
// answer; the body becomes JSON.
type route struct {
	call   string
	handle func(*http.Request) (int, any, *apiError)
}

func (n *Node) routes() map[string]map[string]route {
	return map[string]map[string]route{
		"csr":                   {http.MethodPost: {CallCSR, n.postCSR}, http.MethodGet: {CallPendingCSR, n.getCSR}},
		"identity/certificates": {http.MethodPost: {CallUploadIdentity, n.postIdentity}},
		"identity/certificate":  {http.MethodGet: {CallIdentity, n.getIdentity}},
		"trust/certificates":    {http.MethodPost: {CallUploadTrust, n.postTrust}},
		"trust/certificate":     {http.MethodGet: {CallTrust, n.getTrust}},
		"snapshot/server":       {http.MethodGet: {CallSnapshot, n.getSnapshot}},
	}
}

// api is the REST API of the node.
func (n *Node) api() http.Handler {
	routes := n.routes()
	find := func(r *http.Request) (methods map[string]route, known bool) {
		path := r.URL.Path
		if len(path) < len(basePath) || path[:len(basePath)] != basePath {
			return nil, false
		}
		methods, known = routes[path[len(basePath):]]
		return methods, known
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		methods, known := find(r)
		n.serve(w, r, methods, known)
	})
	return n.c.faults.Handler(func(r *http.Request) string {
		methods, _ := find(r)
		return methods[r.Method].call
	}, serve)
}

func (n *Node) serve(w http.ResponseWriter, r *http.Request, methods map[string]route, known bool) {
	user, password, _ := r.BasicAuth()
	privilege, ok := n.login(ViaREST, user, password)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="CMPlatform"`)
		answerError(w, refuse(http.StatusUnauthorized, "Unauthorized"))
		return
	}
	if !known {
		answerError(w, refuse(http.StatusNotFound, "Not Found"))
		return
	}
	if r.Method != http.MethodGet && privilege < 1 {
		answerError(w, refuse(http.StatusForbidden, "User does not have the privilege to perform this operation"))
		return
	}
	route, ok := methods[r.Method]
	if !ok {
		w.Header()["Allow"] = sortedKeys(methods)
		answerError(w, refuse(http.StatusMethodNotAllowed, "Method Not Allowed"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	status, body, refused := route.handle(r)
	if refused != nil {
		n.c.log.Info("request refused", "node", n.fqdn, "call", route.call, "status", refused.status, "messages", refused.messages)
		answerError(w, refused)
		return
	}
	answerJSON(w, status, body)
}

// trackingID is what an appliance logs beside each request.
func trackingID() string { return "UC_" + uuid.NewString() }

func answerError(w http.ResponseWriter, e *apiError) {
	answerJSON(w, e.status, struct {
		Key        int      `json:"key"`
		Messages   []string `json:"messages"`
		TrackingID string   `json:"trackingId"`
	}{e.status, e.messages, trackingID()})
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// decode reads one JSON object. It is strict: a misspelt field is an error.
func decode(body io.Reader, into any) *apiError {
	text, err := io.ReadAll(body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, "Request is too large")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid JSON Format")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "Invalid JSON Format", err.Error())
	}
	if d.More() {
		return refuse(http.StatusBadRequest, "Invalid JSON Format")
	}
	return nil
}

// queried checks the service that a query names.
func (n *Node) queried(r *http.Request) (string, *apiError) {
	name := r.URL.Query().Get("service")
	return name, n.checkService(name)
}

func (n *Node) checkService(name string) *apiError {
	if slices.Contains(certificateServices(n.role), name) {
		return nil
	}
	return refuse(http.StatusBadRequest, "Invalid service: "+strconv.Quote(name))
}
