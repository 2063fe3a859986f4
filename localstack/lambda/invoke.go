package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxSyncBytes bounds the payload and the answer of a synchronous invocation (Developer Guide, Lambda quotas, 2026).
const maxSyncBytes = 6 << 20

// InvocationType is how Invoke is called.
type InvocationType string

// The invocation types.
const (
	RequestResponse InvocationType = "RequestResponse"
	Event           InvocationType = "Event"
	DryRun          InvocationType = "DryRun"
)

// invoke is the API's Invoke.
func (e *Emulator) invoke(c *call) *apiError {
	ref, err := e.reference(c)
	if err != nil {
		return err
	}
	kind := InvocationType(c.r.Header.Get("X-Amz-Invocation-Type"))
	limit := maxSyncBytes
	switch kind {
	case "":
		kind = RequestResponse
	case RequestResponse, DryRun:
	case Event:
		limit = e.config.EventBytes
	default:
		return violated(kind, "invocationType", "Member must satisfy enum value set: [Event, RequestResponse, DryRun]")
	}
	payload, err := readPayload(c, kind, limit)
	if err != nil {
		return err
	}
	f, err := e.invocable(ref)
	if err != nil {
		return err
	}
	fault := e.chooseFault(Call{Function: f.key.name, Type: kind, Payload: payload})
	if err := e.act(c, f, fault); err != nil {
		return err
	}
	switch kind {
	case DryRun:
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case Event:
		return e.accept(c, &event{f: f, qualifier: ref.qualifier, id: c.requestID, payload: payload, trace: traceID(c.r), at: time.Now(), killAt: fault.killAt()}, fault)
	default:
		return e.invokeNow(c, f, ref, payload, fault)
	}
}

func readPayload(c *call, kind InvocationType, limit int) ([]byte, *apiError) {
	payload, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, maxSyncBytes))
	if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
		return nil, tooLarge("Request must be smaller than %d bytes for the InvokeFunction operation", maxSyncBytes)
	}
	switch {
	case err != nil:
		return nil, &apiError{status: http.StatusBadRequest, code: "InvalidRequestContentException", message: "Could not read the request body: " + err.Error()}
	case len(payload) > limit:
		return nil, tooLarge("%d byte payload is too large for the %s invocation type (limit %d bytes)", len(payload), kind, limit)
	case len(payload) == 0:
		return []byte("{}"), nil
	case !json.Valid(payload):
		return nil, &apiError{status: http.StatusBadRequest, code: "InvalidRequestContentException", message: "Could not parse request body into json: Could not parse payload into json"}
	}
	return payload, nil
}

// invocable returns the function if it has the version and is not about to be.
func (e *Emulator) invocable(ref reference) (*function, *apiError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, v, err := e.findVersion(ref)
	if err != nil {
		return nil, err
	}
	if v.pending() {
		return nil, conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	return f, nil
}

// invokeNow runs the function while its caller waits. A caller that leaves does not stop it.
func (e *Emulator) invokeNow(c *call, f *function, ref reference, payload []byte, fault Fault) *apiError {
	v, err := e.acquire(f, ref.qualifier)
	if err != nil {
		return err
	}
	inv := &invocation{id: c.requestID, invokedARN: qualified(f, ref.qualifier), traceID: traceID(c.r), payload: payload, killAt: fault.killAt(), answered: make(chan answer, 1)}
	if b, err := base64.StdEncoding.DecodeString(c.r.Header.Get("X-Amz-Client-Context")); err == nil {
		inv.clientContext = string(b)
	}
	type ending struct {
		out outcome
		err error
	}
	ended := make(chan ending, 1)
	ok := e.goroutine(func() {
		out, err := e.run(v, inv)
		ended <- ending{out, err}
	})
	if !ok {
		e.release(f)
		return unavailable(errClosed)
	}
	select {
	case <-c.r.Context().Done():
		return nil
	case end := <-ended:
		if end.err != nil {
			return unavailable(end.err)
		}
		h := c.w.Header()
		h.Set("X-Amz-Executed-Version", end.out.version)
		if end.out.functionError != "" {
			h.Set("X-Amz-Function-Error", end.out.functionError)
		}
		if c.r.Header.Get("X-Amz-Log-Type") == "Tail" {
			h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(end.out.log))
		}
		if fault.Kind == FaultCut {
			panic(http.ErrAbortHandler)
		}
		h.Set("Content-Type", "application/json")
		_, _ = c.w.Write(end.out.payload) // a client that left is no concern of ours
		return nil
	}
}

func unavailable(err error) *apiError {
	return &apiError{status: http.StatusServiceUnavailable, code: "ServiceUnavailableException", message: "the emulator could not run the function: " + err.Error()}
}

func qualified(f *function, qualifier string) string {
	if qualifier == "" {
		return f.arn
	}
	return f.arn + ":" + qualifier
}

// traceID is the caller's, or a new one that is not sampled.
func traceID(r *http.Request) string {
	if id := r.Header.Get("X-Amzn-Trace-Id"); id != "" {
		return id
	}
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), randomHex(12), randomHex(8))
}

// acquire takes one of the function's, or the account's, concurrent executions, or says why there is none. run gives it back.
func (e *Emulator) acquire(f *function, qualifier string) (*version, *apiError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.deleted {
		return nil, notFound("Function not found: %s", f.arn)
	}
	v, err := f.resolve(qualifier)
	if err != nil {
		return nil, err
	}
	reason := ""
	if f.reserved != nil {
		if f.stats.Running >= *f.reserved {
			reason = reasonReserved
		}
	} else {
		shared := 0
		for _, other := range e.functions {
			if other.reserved == nil {
				shared += other.stats.Running
			}
		}
		if shared >= e.unreserved() {
			reason = reasonAccount
		}
	}
	if reason != "" {
		f.stats.Throttles++
		return nil, throttled(reason)
	}
	f.stats.Running++
	f.stats.MaxRunning = max(f.stats.MaxRunning, f.stats.Running)
	return v, nil
}

func (e *Emulator) release(f *function) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.stats.Running--
}

// run runs inv in an environment of v, a frozen one if there is any. acquire has been called before; run releases.
func (e *Emulator) run(v *version, inv *invocation) (outcome, error) {
	defer e.release(v.function)
	env := e.thawed(v)
	if env == nil {
		var out outcome
		var err error
		if env, out, err = e.cold(v, inv); err != nil {
			return out, e.complain(err)
		}
		if env == nil {
			e.count(v, out)
			return out, nil
		}
	}
	out, err := env.invoke(inv)
	if err != nil || !out.reusable || !e.keep(env) {
		env.discard()
	}
	if err != nil {
		return out, e.complain(err)
	}
	e.count(v, out)
	return out, nil
}

// complain logs what the emulator itself could not do.
func (e *Emulator) complain(err error) error {
	if !errors.Is(err, errClosed) {
		e.log.Warn("function not run", "err", err)
	}
	return err
}

func (e *Emulator) count(v *version, out outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v.function.stats.Invocations++
	if out.functionError != "" {
		v.function.stats.Errors++
	}
}

// cold starts an environment. As on AWS a failed initialisation is tried once more, within the invocation; the environment is nil if
// that failed too, and the outcome then says how.
func (e *Emulator) cold(v *version, inv *invocation) (*environment, outcome, error) {
	limit := initTimeout
	for again := false; ; again = true {
		env, err := e.newEnvironment(v)
		if err != nil {
			return nil, outcome{}, err
		}
		began := time.Now()
		failed, err := env.start(inv.id, limit)
		if err == nil && failed == nil {
			return env, outcome{}, nil
		}
		env.discard()
		if err != nil {
			return nil, outcome{}, err
		}
		took := time.Since(began)
		phase := "init"
		if again {
			phase = "invoke"
		}
		env.logLine(fmt.Sprintf("INIT_REPORT Init Duration: %.2f ms\tPhase: %s\tStatus: %s\tError Type: %s", float64(took)/float64(time.Millisecond), phase, failed.status, failed.errorType))
		if again {
			env.logLine("START RequestId: " + inv.id + " Version: " + v.number)
			env.end(inv.id, took, failed, "")
			out := outcome{answer: answer{payload: failed.payload, functionError: unhandled, errorType: failed.errorType}, version: v.number, log: env.tail.take()}
			return nil, out, nil
		}
		limit = v.timeout()
	}
}

// thawed takes a frozen environment of v; nil if there is none that lives.
func (e *Emulator) thawed(v *version) *environment {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := v.function
	for list := f.idle[v]; len(list) > 0; list = f.idle[v] {
		env := list[len(list)-1]
		f.idle[v] = list[:len(list)-1]
		select {
		case <-env.box.exited():
			e.locked(env.discard)
		default:
			return env
		}
	}
	return nil
}

// keep puts a frozen environment aside for the next invocation; it is false if its version is no longer run.
func (e *Emulator) keep(env *environment) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := env.v.function
	if e.isClosed() || f.deleted || env.v.number == latest && env.v != f.latest {
		return false
	}
	env.idleSince = time.Now()
	f.idle[env.v] = append(f.idle[env.v], env)
	return true
}

// sweep ends environments that have been frozen for too long.
func (e *Emulator) sweep() {
	for e.sleep(max(e.config.IdleTTL/4, time.Millisecond)) {
		var old []*environment
		e.mu.Lock()
		for _, f := range e.functions {
			for v, list := range f.idle {
				for len(list) > 0 && time.Since(list[0].idleSince) > e.config.IdleTTL { // the least recently used first
					old = append(old, list[0])
					list = list[1:]
				}
				f.idle[v] = list
			}
		}
		e.mu.Unlock()
		for _, env := range old {
			env.discard()
		}
	}
}
