package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/localstack/lambda"
)

var lambdaDefaults lambda.Config

func TestConfigIsCheckedByField(t *testing.T) {
	t.Parallel()
	_, err := lambda.New(lambda.Config{Account: "1", Sandbox: "vm", Concurrency: -1, RetryScale: 2, EventBytes: -1, Activation: -1, IdleTTL: -1})
	if err == nil {
		t.Fatal("a wrong configuration is taken")
	}
	for _, field := range []string{"Account", "Sandbox", "Concurrency", "RetryScale", "EventBytes", "Activation", "IdleTTL"} {
		if !strings.Contains(err.Error(), "lambda: "+field+": ") {
			t.Errorf("%v: lacks %s", err, field)
		}
	}
}

func TestFailedEventIsRetriedTwiceThenGivenUp(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name := create(t, client)
	send(t, client, name, order{Do: "error"})
	waitFor(t, "the event to be given up", func() bool { return stats(t, e, name).Discarded == 1 })
	s := stats(t, e, name)
	got, want := []int{s.Invocations, s.Errors, s.Queued}, []int{3, 3, 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invocations, errors, queued (-want +got):\n%s", diff)
	}
	rec := e.Discarded()[0]
	if rec.RequestContext.Condition != "RetriesExhausted" || rec.RequestContext.ApproximateInvokeCount != 3 || rec.RequestContext.FunctionARN != s.FunctionArn+":$LATEST" ||
		string(rec.RequestPayload) != `{"do":"error"}` || rec.ResponseContext.FunctionError != "Unhandled" || !strings.Contains(string(rec.ResponsePayload), "as ordered") {
		t.Errorf("record: %+v", rec)
	}
	if ids := requestIDs(e.Log(name)); len(ids) != 3 || ids[0] != ids[2] || ids[0] != rec.RequestContext.RequestID {
		t.Errorf("request ids of the runs: %v, want the event's three times", ids)
	}
}

// requestIDs are those of the START lines.
func requestIDs(log string) []string {
	var ids []string
	for line := range strings.Lines(log) {
		if after, ok := strings.CutPrefix(line, "START RequestId: "); ok {
			ids = append(ids, after[:36])
		}
	}
	return ids
}

func TestEventRetriesObeyTheConfiguration(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name, destination := create(t, client), create(t, client)
	_, err := client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{
		FunctionName: &name, MaximumRetryAttempts: aws.Int32(0),
		DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: aws.String(stats(t, e, destination).FunctionArn)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	send(t, client, name, order{Do: "error"})
	waitFor(t, "the destination to run", func() bool { return stats(t, e, destination).Invocations == 1 })
	if n := stats(t, e, name).Invocations; n != 1 {
		t.Errorf("runs: %d, want 1", n)
	}
	if rec := e.Discarded()[0]; rec.Destination != stats(t, e, destination).FunctionArn {
		t.Errorf("destination: %s", rec.Destination)
	}
}

func TestThrottledEventWaitsUntilItIsTooOld(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{Concurrency: 1})
	busy, name := create(t, client), create(t, client)
	send(t, client, busy, order{Do: "sleep", Millis: 15_000})
	waitFor(t, "the account to be busy", func() bool { return stats(t, e, busy).Running == 1 })
	if _, err := client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumEventAgeInSeconds: aws.Int32(60)}); err != nil {
		t.Fatal(err)
	}
	send(t, client, name, order{})
	waitFor(t, "the event to be given up", func() bool { return stats(t, e, name).Discarded == 1 })
	s, rec := stats(t, e, name), e.Discarded()[0]
	if s.Throttles < 2 || s.Invocations != 0 || rec.RequestContext.Condition != "EventAgeExceeded" || rec.ResponseContext != nil {
		t.Errorf("stats %+v, record %+v, want throttles, no run, EventAgeExceeded", s, rec)
	}
	_, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
	var throttled *types.TooManyRequestsException
	if !errors.As(err, &throttled) || throttled.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || aws.ToString(throttled.RetryAfterSeconds) != "1" {
		t.Errorf("account limit: %#v, want its reason and Retry-After", err)
	}
}

func TestHighestConcurrencyIsKnown(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name := create(t, client)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			_, _ = tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{Do: "sleep", Millis: 3000})
		})
	}
	waitFor(t, "three to run", func() bool { return stats(t, e, name).Running == 3 })
	all.Wait()
	if s := stats(t, e, name); s.Running != 0 || s.MaxRunning != 3 || s.ColdStarts != 3 {
		t.Errorf("stats: %+v, want 0 running, 3 at most, 3 cold starts", s)
	}
}

func TestEnvironmentIsFrozenBetweenInvocations(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name := create(t, client)
	for range 2 {
		ask(t, client, name, order{})
		list := stats(t, e, name).Environments
		if len(list) != 1 || list[0].PID == 0 {
			t.Fatalf("environments: %+v, want one", list)
		}
		waitFor(t, "the kernel to stop it", func() bool { return stats(t, e, name).Environments[0].Frozen })
	}
}

func TestTimeoutKillsEveryProcess(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name := create(t, client, func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(1) })
	child := ask(t, client, name, order{Do: "fork"}).Child
	if child == 0 || !alive(child) {
		t.Fatalf("child %d does not live", child)
	}
	invoke(t, client, name, order{Do: "sleep", Millis: 60_000})
	waitFor(t, "the child to end", func() bool { return !alive(child) })
	if s := stats(t, e, name); len(s.Environments) != 0 {
		t.Errorf("environments: %+v, want none", s.Environments)
	}
	if log := e.Log(name); !strings.Contains(log, "Status: timeout") {
		t.Errorf("log lacks the timeout:\n%s", log)
	}
}

func TestTooMuchMemoryIsAKill(t *testing.T) {
	t.Parallel()
	_, client := open(t, lambda.Config{})
	name := create(t, client)
	out := invoke(t, client, name, order{Do: "allocate", Bytes: 400 << 20, Millis: 15_000})
	if aws.ToString(out.FunctionError) != "Unhandled" || !strings.Contains(string(out.Payload), "signal: killed") {
		t.Errorf("400 MiB of 256: %s, want a kill", out.Payload)
	}
}

func TestUpdateReplacesFrozenEnvironments(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{})
	name := create(t, client)
	before := ask(t, client, name, order{}).PID
	if _, err := client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: &name, MemorySize: aws.Int32(512)}); err != nil {
		t.Fatal(err)
	}
	after := ask(t, client, name, order{})
	if after.PID == before || after.Environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] != "512" {
		t.Errorf("after the update: pid %d, memory %s, want another than %d, 512", after.PID, after.Environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], before)
	}
	waitFor(t, "the old environment to end", func() bool { return len(stats(t, e, name).Environments) == 1 })
}

func TestIdleEnvironmentsEnd(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{IdleTTL: 20 * time.Millisecond})
	name := create(t, client)
	pid := ask(t, client, name, order{}).PID
	waitFor(t, "the environment to end", func() bool { return len(stats(t, e, name).Environments) == 0 && !alive(pid) })
	if f := ask(t, client, name, order{}); f.Count != 1 {
		t.Errorf("count %d, want another environment", f.Count)
	}
}

func TestFunctionsBelongToARegion(t *testing.T) {
	t.Parallel()
	_, client := open(t, lambda.Config{})
	name := create(t, client)
	there := func(o *sdk.Options) { o.Region = "us-east-1" }
	_, err := client.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: &name}, there)
	refused(t, err, 404, "ResourceNotFoundException")
	arn := "arn:aws:lambda:" + testRegion + ":000000000000:function:" + name
	_, err = client.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: &arn}, there)
	refused(t, err, 404, "ResourceNotFoundException")
	list, err := client.ListFunctions(t.Context(), &sdk.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 1 || *list.Functions[0].FunctionArn != arn {
		t.Errorf("functions of the region: %v, %v, want %s", list, err, arn)
	}
}

func TestDeniedActionsAreRefusedInAWSsWords(t *testing.T) {
	t.Parallel()
	e, client := open(t, lambda.Config{Denied: []string{"lambda:InvokeFunction"}})
	name := create(t, client)
	_, err := tryInvoke(t.Context(), client, name, types.InvocationTypeDryRun, order{})
	refused(t, err, 403, "AccessDeniedException")
	if want := "is not authorized to perform: lambda:InvokeFunction on resource: " + stats(t, e, name).FunctionArn; !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestFaultsHappenAsOrdered(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	e, client := open(t, lambda.Config{Fault: func(c lambda.Call) lambda.Fault {
		calls.Add(1)
		if bytes.Contains(c.Payload, []byte("by hook")) {
			return lambda.Fault{Kind: lambda.FaultDeny}
		}
		return lambda.Fault{}
	}})
	name := create(t, client)
	try := func(kind types.InvocationType, o order) error {
		_, err := tryInvoke(t.Context(), client, name, kind, o)
		return err
	}
	set := func(rules ...lambda.Rule) {
		t.Helper()
		if err := e.SetFaults(rules...); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, try(types.InvocationTypeRequestResponse, order{Value: "by hook"}), 403, "AccessDeniedException")

	set(lambda.Rule{Count: 2, Fault: lambda.Fault{Kind: lambda.FaultThrottle}}, lambda.Rule{Type: lambda.Event, Count: 1, Fault: lambda.Fault{Kind: lambda.FaultError, Status: 502, Code: "EC2ThrottledException"}})
	refused(t, try(types.InvocationTypeEvent, order{}), 429, "TooManyRequestsException")
	refused(t, try(types.InvocationTypeRequestResponse, order{}), 429, "TooManyRequestsException")
	ask(t, client, name, order{}) // the second rule is for events
	refused(t, try(types.InvocationTypeEvent, order{}), 502, "EC2ThrottledException")
	if left := e.Faults(); len(left) != 0 {
		t.Errorf("rules left: %+v", left)
	}
	set(lambda.Rule{Fault: lambda.Fault{Kind: lambda.FaultError}})
	for range 2 {
		refused(t, try(types.InvocationTypeEvent, order{}), 500, "ServiceException")
	}

	before := stats(t, e, name).Invocations
	set(lambda.Rule{Count: 1, Fault: lambda.Fault{Kind: lambda.FaultDrop}}, lambda.Rule{Count: 1, Fault: lambda.Fault{Kind: lambda.FaultDuplicate, Times: 3}})
	send(t, client, name, order{Value: "dropped"})
	send(t, client, name, order{Value: "tripled"})
	waitFor(t, "three runs", func() bool { s := stats(t, e, name); return s.Invocations == before+3 && s.Queued == 0 })

	set(lambda.Rule{Count: 1, Fault: lambda.Fault{Kind: lambda.FaultKill, Fraction: 0.01}})
	if out := invoke(t, client, name, order{Do: "sleep", Millis: 15_000}); !strings.Contains(string(out.Payload), "signal: killed") {
		t.Errorf("killed: %s", out.Payload)
	}

	set(lambda.Rule{Count: 1, Fault: lambda.Fault{Kind: lambda.FaultCut}})
	before = stats(t, e, name).Invocations
	if err := try(types.InvocationTypeEvent, order{}); err == nil {
		t.Error("the answer was not lost")
	}
	waitFor(t, "the event whose answer was lost", func() bool { return stats(t, e, name).Invocations == before+1 })

	set(lambda.Rule{Count: 1, Fault: lambda.Fault{Kind: lambda.FaultDelay, Delay: lambda.Duration(time.Hour)}})
	ctx, cancel := context.WithCancel(t.Context())
	asked := calls.Load()
	go func() {
		for calls.Load() == asked && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := tryInvoke(ctx, client, name, types.InvocationTypeEvent, order{}); !errors.Is(err, context.Canceled) {
		t.Errorf("delayed: %v, want no answer", err)
	}
	if err := e.SetFaults(lambda.Rule{Fault: lambda.Fault{Kind: "explode"}}, lambda.Rule{Count: -1, Fault: lambda.Fault{Kind: lambda.FaultDrop}}); err == nil || !strings.Contains(err.Error(), "rule 0: ") || !strings.Contains(err.Error(), "rule 1: ") {
		t.Errorf("wrong rules: %v, want both named", err)
	}
}

func TestAdministrationByHTTP(t *testing.T) {
	t.Parallel()
	var logs lockedBuffer
	_, url := serve(t, lambda.Config{Logs: &logs})
	client := dial(url)
	name := create(t, client)
	do := func(method, path, body string, status int) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status {
			t.Fatalf("%s %s: %d, %v, want %d\n%s", method, path, resp.StatusCode, err, status, b)
		}
		return string(b)
	}
	do("PUT", "/_emulator/faults", `[{"function":"`+name+`","type":"Event","fault":"throttle","count":2,"delay":"1ms"}]`, 200)
	_, err := tryInvoke(t.Context(), client, name, types.InvocationTypeEvent, order{})
	refused(t, err, 429, "TooManyRequestsException")
	if got := do("GET", "/_emulator/faults", "", 200); got != `[{"function":"`+name+`","type":"Event","count":1,"fault":"throttle","delay":"1ms"}]` {
		t.Errorf("rules left: %s", got)
	}
	do("DELETE", "/_emulator/faults", "", 204)
	do("PUT", "/_emulator/faults", `[{"fault":"throttle","cuont":2}]`, 400)
	if got := do("GET", "/_emulator/faults", "", 200); got != "[]" {
		t.Errorf("rules after all were removed: %s", got)
	}
	ask(t, client, name, order{Do: "log", Value: "seen"})
	if got := do("GET", "/_emulator/logs/"+name, "", 200); !strings.Contains(got, "to stderr: seen\n") {
		t.Errorf("log: %s", got)
	}
	if !strings.Contains(logs.String(), name+" to stderr: seen\n") {
		t.Errorf("Config.Logs: %s", logs.String())
	}
	var s lambda.Stats
	if err := json.Unmarshal([]byte(do("GET", "/_emulator/functions/"+name, "", 200)), &s); err != nil || s.Invocations != 1 || s.MaxRunning != 1 || s.Throttles != 1 || len(s.Environments) != 1 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if got := do("GET", "/_emulator/functions", "", 200); !strings.Contains(got, name) {
		t.Errorf("functions: %s", got)
	}
	if got := do("GET", "/_emulator/discarded", "", 200); got != "[]" {
		t.Errorf("discarded: %s", got)
	}
	do("GET", "/_emulator/functions/nobody", "", 404)
	do("GET", "/_emulator/health", "", 200)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestOtherServicesAnswerAtTheSameURL(t *testing.T) {
	t.Parallel()
	_, url := serve(t, lambda.Config{Account: "123456789012", Secrets: map[string]string{"gmaps/token": "s3cret"}})
	secrets := secretsmanager.NewFromConfig(awsConfig(url))
	out, err := secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("gmaps/token")})
	if err != nil || *out.SecretString != "s3cret" {
		t.Fatalf("secret: %v, %v", out, err)
	}
	if out, err := secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: out.ARN}); err != nil || *out.SecretString != "s3cret" {
		t.Errorf("secret by ARN: %v, %v", out, err)
	}
	_, err = secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("another")})
	refused(t, err, 400, "ResourceNotFoundException")
	who, err := sts.NewFromConfig(awsConfig(url)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Account != "123456789012" {
		t.Errorf("caller: %v, %v", who, err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	e, client := open(t, lambda.Config{StateDir: dir})
	name := create(t, client)
	frozen := ask(t, client, name, order{Do: "fork"})
	send(t, client, name, order{Do: "sleep", Millis: 15_000})
	send(t, client, name, order{Do: "sleep", Millis: 15_000})
	waitFor(t, "two to run", func() bool {
		list := stats(t, e, name).Environments
		return len(list) == 2 && !slices.ContainsFunc(list, func(env lambda.Environment) bool { return env.PID == 0 })
	})
	pids := []int{frozen.PID, frozen.Child}
	for _, env := range stats(t, e, name).Environments {
		pids = append(pids, env.PID)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		waitFor(t, "a process to end", func() bool { return !alive(pid) })
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	_, err = tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
	refused(t, err, 503, "ServiceUnavailableException")
}

// TestKilledEmulatorLeavesNoProcess kills a whole emulator, with a running and a frozen environment and what they have started.
func TestKilledEmulatorLeavesNoProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveInstead+"=1", "TMPDIR="+stateDir(t)) // the killed cannot clean up
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	url := make([]byte, 64)
	n, err := out.Read(url)
	if err != nil {
		t.Fatal(err)
	}
	client := dial(strings.TrimSpace(string(url[:n])))
	name := create(t, client)
	first, second := make(chan facts, 1), make(chan facts, 1)
	for _, to := range []chan facts{first, second} { // at the same time, hence in two environments
		go func() {
			out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{Do: "fork", Millis: 2500})
			var f facts
			if err == nil {
				err = json.Unmarshal(out.Payload, &f)
			}
			if err != nil {
				t.Error(err)
			}
			to <- f
		}()
	}
	a, b := <-first, <-second
	if a.PID == b.PID {
		t.Fatal("both ran in one environment")
	}
	send(t, client, name, order{Do: "sleep", Millis: 60_000}) // one of them runs, the other stays frozen
	pids := []int{a.PID, a.Child, b.PID, b.Child}
	for _, pid := range pids {
		if pid == 0 || !alive(pid) {
			t.Fatalf("process %d does not live before the kill", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	ended = true
	for _, pid := range pids {
		waitFor(t, fmt.Sprintf("process %d of the killed emulator's %v to end", pid, pids), func() bool { return !alive(pid) })
	}
}

// serveInstead makes the test binary an emulator in a process of its own.
const serveInstead = "GMAPS_TEST_SERVE_EMULATOR"
