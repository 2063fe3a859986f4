package spawner

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// heldCall is an invocation whose answer is waited for.
type heldCall struct {
	worker Worker
	cancel context.CancelCauseFunc
	over   bool
	exit   Exit
}

const (
	// refusalGrace is how long Create waits beyond the request for a refusal, which comes at once: then it is the start that failed, and not
	// a worker.
	refusalGrace = 500 * time.Millisecond
	// endsKept bounds how long an end is remembered that nobody removes.
	endsKept = time.Hour
	// answerSlack is how long beyond the longest run of a function an answer is waited for.
	answerSlack = time.Minute
)

// turnedAway is the reason that our function reports (worker.EndedTaken) when another worker has its spawn: the end of this invocation is
// not that of the spawn's worker.
const turnedAway = "another worker has this spawn"

// whenSent returns a context whose next request closes sent once it is out.
func whenSent(ctx context.Context) (traced context.Context, sent <-chan struct{}) {
	out := make(chan struct{})
	wrote := sync.OnceFunc(func() { close(out) })
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			wrote()
		}
	}}), out
}

// hold invokes the function and returns when the request is out. The connection lives on until the answer, or Close.
func (l *Lambda) hold(ctx context.Context, spec Spec, body []byte) (Worker, error) {
	id := ID(spec.Name)
	calling, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	calling, expire := context.WithTimeoutCause(calling, maxTimeout+answerSlack, errNoAnswer)
	c := &heldCall{worker: l.worker(spec, id), cancel: cancel}
	traced, out := whenSent(calling)
	answered := make(chan error, 1)
	sent := out
	l.mu.Lock()
	l.forgetOld()
	earlier := l.calls[id]
	switch {
	case l.closed:
		l.mu.Unlock()
		expire()
		cancel(errClosed)
		return Worker{}, fmt.Errorf("invoke %s: %w", l.cfg.Function, context.Canceled)
	case earlier != nil:
		w := earlier.worker
		w.Running = !earlier.over
		l.mu.Unlock()
		expire()
		cancel(nil)
		return w, nil
	}
	l.calls[id] = c
	l.calling.Go(func() error {
		defer cancel(nil)
		defer expire()
		result, err := l.client.Invoke(traced, &lambda.InvokeInput{
			FunctionName: &l.cfg.Function, InvocationType: types.InvocationTypeRequestResponse, LogType: types.LogTypeTail, Payload: body,
		})
		l.answer(calling, id, result, err)
		answered <- err
		return nil
	})
	l.mu.Unlock()

	var over <-chan time.Time
	for {
		select {
		case err := <-answered:
			if err != nil {
				l.mu.Lock()
				delete(l.calls, id)
				l.mu.Unlock()
				return Worker{}, l.uncreated(ctx, err, isClosed(out))
			}
			w := c.worker
			w.Running = false
			return w, nil
		case <-sent:
			sent, over = nil, time.After(refusalGrace)
		case <-over:
			return c.worker, nil
		case <-ctx.Done():
			if sent == nil {
				return c.worker, nil
			}
			cancel(context.Cause(ctx))
			return Worker{}, fmt.Errorf("invoke %s: %w", l.cfg.Function, context.Cause(ctx))
		}
	}
}

var errNoAnswer = errors.New("no function runs for so long")

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// uncreated is the error of a Create. Of a request that went out and was not answered nobody knows what came of it: that is none of ours, so
// that the Manager keeps the row, and invokes again under the same name.
func (l *Lambda) uncreated(ctx context.Context, err error, sent bool) error {
	if _, answered := errors.AsType[smithy.APIError](err); sent && !answered && ctx.Err() == nil {
		return fmt.Errorf("invoke %s: the connection to %s broke before its answer: %w", l.cfg.Function, l.endpoint, root(err))
	}
	return l.refused(ctx, "create", err)
}

// answer keeps how an invocation ended. A connection that broke says nothing of the invocation: it may run on, and is forgotten here.
func (l *Lambda) answer(ctx context.Context, id ID, out *lambda.InvokeOutput, err error) {
	var exit Exit // zero: it may run on
	_, refused := errors.AsType[smithy.APIError](err)
	switch {
	case err == nil:
		if exit = l.exitOf(out); exit.Code == 0 && exit.Detail == turnedAway {
			exit = Exit{}
		}
	case refused:
		exit = Exit{Code: -1, Detail: l.refused(ctx, "create", err).Error(), EndedAt: time.Now()}
	}
	l.mu.Lock()
	if c := l.calls[id]; c != nil {
		if c.over, c.exit = true, exit; exit.EndedAt.IsZero() {
			delete(l.calls, id)
		}
	}
	l.mu.Unlock()
	select {
	case l.ended <- struct{}{}:
	default:
	}
}

// forgetOld drops ends that nobody asked for. The caller holds mu.
func (l *Lambda) forgetOld() {
	for id, c := range l.calls {
		if c.over && time.Since(c.exit.EndedAt) > endsKept {
			delete(l.calls, id)
		}
	}
}

// exitOf reads an answer: status 200 also when the function failed.
func (l *Lambda) exitOf(out *lambda.InvokeOutput) Exit {
	exit := Exit{EndedAt: time.Now()}
	if out.LogResult != nil {
		if tail, err := base64.StdEncoding.DecodeString(*out.LogResult); err == nil {
			exit.LogTail = strings.ToValidUTF8(string(tail), "")
		}
	}
	l.mu.Lock()
	facts := l.facts
	l.mu.Unlock()
	if facts == nil {
		facts = &functionFacts{}
	}
	exit.CostUSD = billed(exit.LogTail, *facts)
	var answer struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
		Reason  string `json:"reason"` // of our own function's report
	}
	_ = json.Unmarshal(out.Payload, &answer) // of another function it may be anything
	if out.FunctionError == nil {
		exit.Detail = answer.Reason
		return exit
	}
	exit.Code = 1
	exit.Detail = strings.Trim(answer.Type+": "+answer.Message, ": ")
	if mend := invocationMend(answer.Type, answer.Message, facts.architecture); mend != "" {
		exit.Detail += "; " + mend
	}
	return exit
}

// invocationMend says what mends a function that Lambda could not run (Developer Guide, custom runtimes and troubleshooting, 2026).
func invocationMend(kind, message, architecture string) string {
	arch := ""
	if architecture == string(types.ArchitectureArm64) {
		arch = " ARCH=arm64"
	}
	switch {
	case strings.Contains(message, "exec format error"):
		return "the bootstrap was built for another architecture than the function's: make lambda" + arch + ", and upload it"
	case kind == "Runtime.InvalidEntrypoint":
		return "the zip must hold an executable bootstrap at its top: make lambda" + arch + ", and upload bin/lambda/function.zip"
	case kind == "Sandbox.Timedout" || strings.Contains(message, "Task timed out"):
		return "the function was killed at its timeout: did it reach the Manager to the end?"
	case kind == "Runtime.ExitError" && strings.Contains(message, "signal: killed"):
		return "raise the function's memory"
	case kind == "Runtime.ExitError":
		return "the bootstrap ended by itself: see its log"
	}
	return ""
}

var reportLine = regexp.MustCompile(`REPORT RequestId: \S+\s+Duration: [\d.]+ ms\s+Billed Duration: (\d+) ms\s+Memory Size: (\d+) MB`)

// billed is the price of what a log's REPORT line says was billed; 0 if there is none.
func billed(log string, f functionFacts) float64 {
	m := reportLine.FindStringSubmatch(log)
	if m == nil {
		return 0
	}
	ms, _ := strconv.Atoi(m[1])
	f.memoryMiB, _ = strconv.Atoi(m[2])
	return f.usd(time.Duration(ms) * time.Millisecond)
}
