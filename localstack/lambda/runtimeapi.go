package lambda

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// runtimeAPI is what a bootstrap speaks to: one listener an environment, so that none can answer for another.
type runtimeAPI struct {
	server *http.Server
	addr   string // AWS_LAMBDA_RUNTIME_API
	work   chan *invocation
	polled chan struct{}  // one for each /next: the runtime is done with what it had
	failed chan initError // /init/error
	closed chan struct{}
	served chan struct{}

	mu      sync.Mutex
	current *invocation // delivered and not answered
}

// initError is what a runtime reports of its initialisation.
type initError struct {
	errorType string
	payload   []byte
}

// answer is what a runtime says of an invocation.
type answer struct {
	payload       []byte
	functionError string // "" or Unhandled
	errorType     string // for the REPORT line
}

const runtimePath = "/2018-06-01/runtime"

// newRuntimeAPI listens on host; functions find it at guestHost, or at the same address if that is empty.
func newRuntimeAPI(host, guestHost string) (*runtimeAPI, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0")) // binding a port of this machine does not wait
	if err != nil {
		return nil, err
	}
	a := &runtimeAPI{
		addr: l.Addr().String(), work: make(chan *invocation), polled: make(chan struct{}, 1), failed: make(chan initError, 1),
		closed: make(chan struct{}), served: make(chan struct{}),
	}
	if guestHost != "" {
		_, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		a.addr = net.JoinHostPort(guestHost, port)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtimePath+"/invocation/next", a.next)
	mux.HandleFunc("POST "+runtimePath+"/invocation/{id}/response", a.response)
	mux.HandleFunc("POST "+runtimePath+"/invocation/{id}/error", a.error)
	mux.HandleFunc("POST "+runtimePath+"/init/error", a.initError)
	a.server = &http.Server{Handler: mux} // no timeouts: a runtime polls for as long as it is frozen
	go func() {
		defer close(a.served)
		_ = a.server.Serve(l) // until close
	}()
	return a, nil
}

// close ends the listener and all its connections. It is called once.
func (a *runtimeAPI) close() {
	close(a.closed)
	_ = a.server.Close()
	<-a.served
}

func (a *runtimeAPI) next(w http.ResponseWriter, r *http.Request) {
	select {
	case a.polled <- struct{}{}:
	default: // nobody has taken note of the last one
	}
	var inv *invocation
	select {
	case inv = <-a.work:
	case <-r.Context().Done():
		return
	case <-a.closed:
		return
	}
	a.mu.Lock()
	a.current = inv
	a.mu.Unlock()
	h := w.Header()
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.invokedARN)
	h.Set("Lambda-Runtime-Trace-Id", inv.traceID)
	if inv.clientContext != "" {
		h.Set("Lambda-Runtime-Client-Context", inv.clientContext)
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(inv.payload) // a runtime that is gone is seen by its environment
}

func (a *runtimeAPI) response(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxSyncBytes))
	if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
		const kind = "Function.ResponseSizeTooLarge"
		message := "Response payload size exceeded maximum allowed payload size (" + strconv.Itoa(maxSyncBytes) + " bytes)."
		if a.settle(w, r, answer{payload: errorPayload(kind, message), functionError: unhandled, errorType: kind}) {
			refuseRuntime(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", message)
		}
		return
	}
	if err != nil {
		return // the runtime broke off
	}
	out := answer{payload: payload}
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" { // a streamed answer that broke off
		out.functionError, out.errorType = unhandled, kind
	}
	if a.settle(w, r, out) {
		acceptRuntime(w)
	}
}

func (a *runtimeAPI) error(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(io.LimitReader(r.Body, maxSyncBytes))
	if err != nil {
		return
	}
	kind := r.Header.Get("Lambda-Runtime-Function-Error-Type")
	if kind == "" {
		kind = "Runtime.Unknown"
	}
	if a.settle(w, r, answer{payload: payload, functionError: unhandled, errorType: kind}) {
		acceptRuntime(w)
	}
}

// settle gives the answer to the invocation that waits for it; it is false, and has refused, if none of that id does.
func (a *runtimeAPI) settle(w http.ResponseWriter, r *http.Request, out answer) bool {
	a.mu.Lock()
	inv := a.current
	if inv == nil || inv.id != r.PathValue("id") {
		a.mu.Unlock()
		refuseRuntime(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return false
	}
	a.current = nil
	a.mu.Unlock()
	inv.answered <- out
	return true
}

func (a *runtimeAPI) initError(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(io.LimitReader(r.Body, maxSyncBytes))
	if err != nil {
		return
	}
	select {
	case a.failed <- initError{errorType: r.Header.Get("Lambda-Runtime-Function-Error-Type"), payload: payload}:
		acceptRuntime(w)
	default:
		refuseRuntime(w, http.StatusForbidden, "InvalidStateTransition", "State transition from initialized to InitError is not allowed")
	}
}

func acceptRuntime(w http.ResponseWriter) {
	writeJSON(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func refuseRuntime(w http.ResponseWriter, status int, kind, message string) {
	writeJSON(w, status, map[string]string{"errorType": kind, "errorMessage": message})
}

// unhandled is the X-Amz-Function-Error of every failed function of an OS-only runtime.
const unhandled = "Unhandled"

// invocation is one run of a function in one environment.
type invocation struct {
	id, invokedARN, traceID string
	clientContext           string // JSON
	payload                 []byte
	killAt                  float64 // share of the timeout after which the environment is killed; 0: never

	deadline time.Time
	answered chan answer // of capacity 1
}
