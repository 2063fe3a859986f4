package lambda

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// Bounds of the life of an environment.
const (
	// initTimeout is how long an initialisation may take outside an invocation (Developer Guide, execution environment, 2026).
	initTimeout = 10 * time.Second
	// measureEvery is how often the memory of a running bootstrap is measured.
	measureEvery = 100 * time.Millisecond
)

// environment is one execution environment: a sandbox and its Runtime API. It is used by one invocation at a time.
type environment struct {
	e      *Emulator
	v      *version
	id     string
	stream string // log stream
	api    *runtimeAPI
	tail   logTail

	mu      sync.Mutex
	box     sandbox // nil before start
	dead    bool
	payload []byte // of the invocation under way

	idleSince   time.Time     // guarded by Emulator.mu
	initialised time.Duration // how long the initialisation took; 0 once it has been reported
}

// failure is why an environment could not serve. Its payload is what the caller gets.
type failure struct {
	payload   []byte
	errorType string
	status    string   // error or timeout, in REPORT
	lines     []string // for the log
}

func errorPayload(kind, message string) []byte {
	b, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, message})
	if err != nil {
		panic(err) // two strings
	}
	return b
}

// Error types as AWS names them.
const (
	errorExit       = "Runtime.ExitError"
	errorEntrypoint = "Runtime.InvalidEntrypoint"
	errorTimeout    = "Sandbox.Timedout"
)

func exitFailure(id, reason string) *failure {
	message := fmt.Sprintf("RequestId: %s Error: Runtime exited with error: %s", id, reason)
	if reason == "exit status 0" {
		message = fmt.Sprintf("RequestId: %s Error: Runtime exited without providing a reason", id)
	}
	return &failure{payload: errorPayload(errorExit, message), errorType: errorExit, status: "error", lines: []string{message, errorExit}}
}

func entrypointFailure(id, reason string) *failure {
	message := fmt.Sprintf("RequestId: %s Error: %s", id, reason)
	return &failure{payload: errorPayload(errorEntrypoint, message), errorType: errorEntrypoint, status: "error", lines: []string{message, errorEntrypoint}}
}

func timeoutFailure(id string, limit time.Duration) *failure {
	words := fmt.Sprintf("Task timed out after %.2f seconds", limit.Seconds())
	return &failure{
		payload:   errorPayload(errorTimeout, fmt.Sprintf("RequestId: %s Error: %s", id, words)),
		errorType: "", status: "timeout", lines: []string{fmt.Sprintf("%s %s %s", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), id, words)},
	}
}

// errClosed says that the emulator ends.
var errClosed = errors.New("the emulator is closed")

// newEnvironment returns an environment that is not started. It must be discarded.
func (e *Emulator) newEnvironment(v *version) (*environment, error) {
	id := randomHex(16)
	env := &environment{e: e, v: v, id: id, stream: time.Now().UTC().Format("2006/01/02/") + "[" + v.number + "]" + id}
	api, err := newRuntimeAPI(e.starter.runtimeHost())
	if err != nil {
		return nil, fmt.Errorf("listen for the Runtime API: %w", err)
	}
	env.api = api
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isClosed() {
		api.close()
		return nil, errClosed
	}
	e.environments[env] = struct{}{}
	v.function.stats.ColdStarts++
	return env, nil
}

// start starts the bootstrap and waits until it asks for its first invocation.
func (env *environment) start(id string, limit time.Duration) (*failure, error) {
	began := time.Now()
	if reason := env.v.code.checkEntrypoint(env.v.architecture); reason != "" {
		return entrypointFailure(id, reason), nil
	}
	env.logLine(fmt.Sprintf("INIT_START Runtime Version: %s", strings.Replace(env.v.runtime, ".", ":", 1)))
	box, err := env.e.starter.start(sandboxSpec{
		id: env.id, codeDir: env.v.code.dir, memoryMiB: env.v.memoryMiB, ephemeralMiB: env.v.ephemeralMiB, env: env.variables(), line: env.logLine,
	})
	if refused := (*entrypointError)(nil); errors.As(err, &refused) {
		return entrypointFailure(id, refused.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	env.mu.Lock()
	env.box = box
	dead := env.dead
	env.mu.Unlock()
	if dead {
		box.kill()
		<-box.exited()
		return nil, errClosed
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-env.api.polled:
		env.initialised = time.Since(began)
		return nil, nil
	case reported := <-env.api.failed:
		return &failure{payload: reported.payload, errorType: reported.errorType, status: "error"}, nil
	case <-box.exited():
		return exitFailure(id, box.reason()), nil
	case <-timer.C:
		return timeoutFailure(id, limit), nil
	case <-env.e.closed:
		return nil, errClosed
	}
}

// variables are what the function sees (Developer Guide, defined runtime environment variables, 2026). AWS_EXECUTION_ENV is not there for OS-only runtimes.
func (env *environment) variables() map[string]string {
	v, key := env.v, env.v.function.key
	all := map[string]string{
		"LANG": "en_US.UTF-8", "TZ": ":UTC",
	}
	if env.e.config.URL != "" {
		all["AWS_ENDPOINT_URL"] = env.e.config.URL
	}
	maps.Copy(all, v.environment)
	maps.Copy(all, map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          env.api.addr,
		"AWS_LAMBDA_FUNCTION_NAME":        key.name,
		"AWS_LAMBDA_FUNCTION_VERSION":     v.number,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": fmt.Sprint(v.memoryMiB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       v.logGroup(),
		"AWS_LAMBDA_LOG_STREAM_NAME":      env.stream,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_REGION":                      key.region,
		"AWS_DEFAULT_REGION":              key.region,
		"AWS_ACCESS_KEY_ID":               "ASIAEMULATOR00000000",
		"AWS_SECRET_ACCESS_KEY":           "emulator",
		"AWS_SESSION_TOKEN":               "emulator",
		"_HANDLER":                        v.handler,
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
	})
	return all
}

// outcome is what became of an invocation.
type outcome struct {
	answer
	log      []byte // its tail
	version  string
	reusable bool
}

// invoke hands inv to the runtime and waits for its answer, its end, or the function's timeout. Of an invocation that does not end well nothing lives on.
func (env *environment) invoke(inv *invocation) (outcome, error) {
	limit := env.v.timeout()
	if err := env.box.thaw(); err != nil {
		return outcome{}, fmt.Errorf("thaw environment %s: %w", env.id, err)
	}
	env.runs(inv.payload)
	defer env.runs(nil)
	began := time.Now()
	inv.deadline = began.Add(limit)
	env.logLine("START RequestId: " + inv.id + " Version: " + env.v.number)

	given, failed, err := env.await(inv, limit)
	if err != nil {
		return outcome{}, err
	}
	took := time.Since(began)
	out := outcome{version: env.v.number, reusable: failed == nil}
	switch {
	case given != nil && (failed == nil || failed.status != "timeout"): // also of a runtime that exits after its answer, as after a panic
		out.answer = *given
	default:
		out.answer = answer{payload: failed.payload, functionError: unhandled, errorType: failed.errorType}
	}
	if failed == nil {
		if err := env.box.freeze(); err != nil {
			return outcome{}, fmt.Errorf("freeze environment %s: %w", env.id, err)
		}
	}
	env.box.drain()
	env.end(inv.id, took, failed, out.errorType)
	out.log = env.tail.take()
	return out, nil
}

// runs notes the payload of the invocation under way.
func (env *environment) runs(payload []byte) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.payload = payload
}

// end writes the last lines of an invocation.
func (env *environment) end(id string, took time.Duration, failed *failure, errorType string) {
	status, used := "", env.usedMiB()
	if failed != nil {
		status = failed.status
		if failed.errorType != "" {
			errorType = failed.errorType
		}
		for _, line := range failed.lines {
			env.logLine(line)
		}
	} else if errorType != "" {
		status = "error"
	}
	env.logLine("END RequestId: " + id)
	env.logLine(report(id, took, env.initialised, env.v.memoryMiB, used, status, errorType))
	env.initialised = 0
}

func (env *environment) usedMiB() int {
	if env.box == nil {
		return 0
	}
	return env.box.memoryMiB()
}

// await waits for the end of inv. The answer is nil if the runtime gave none; the failure is nil if the environment can go on.
func (env *environment) await(inv *invocation, limit time.Duration) (*answer, *failure, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	measure := time.NewTicker(measureEvery)
	defer measure.Stop()
	var kill <-chan time.Time
	if inv.killAt > 0 {
		t := time.NewTimer(time.Duration(inv.killAt * float64(limit)))
		defer t.Stop()
		kill = t.C
	}
	work := env.api.work
	var given *answer
	collect := func() { // the answer comes before what follows it
		select {
		case a := <-inv.answered:
			given = &a
		default:
		}
	}
	for {
		select {
		case work <- inv:
			work = nil
		case a := <-inv.answered:
			given = &a
		case <-env.api.polled:
			if collect(); given != nil {
				return given, nil, nil
			}
		case <-env.box.exited():
			collect()
			return given, exitFailure(inv.id, env.box.reason()), nil
		case <-kill:
			kill = nil
			env.box.kill()
		case <-measure.C:
			if env.box.memoryMiB() > env.v.memoryMiB {
				env.box.kill()
			}
		case <-timer.C:
			env.box.kill()
			<-env.box.exited()
			collect()
			return given, timeoutFailure(inv.id, limit), nil
		case <-env.e.closed:
			return nil, nil, errClosed
		}
	}
}

// logLine writes a line to the function's log.
func (env *environment) logLine(line string) {
	env.tail.add(line)
	env.v.function.log.add(line)
	env.e.logs.add(env.v.function.key.name, line)
}

// discard kills all that is left of the environment and waits for its end. It may be called again.
func (env *environment) discard() {
	env.mu.Lock()
	first := !env.dead
	env.dead = true
	box := env.box
	env.mu.Unlock()
	if box != nil {
		box.kill()
		<-box.exited()
	}
	if first {
		env.api.close()
		env.e.mu.Lock()
		delete(env.e.environments, env)
		env.e.mu.Unlock()
	}
}
