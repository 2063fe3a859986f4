package spawner

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeAWS speaks the wire of the two calls that the spawner makes.
type fakeAWS struct {
	mu       sync.Mutex
	requests []awsRequest
	invoke   func(http.ResponseWriter, *http.Request, awsRequest)
	function func(http.ResponseWriter, *http.Request)
}

type awsRequest struct {
	path, kind, logType, signature string
	body                           []byte
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path, _ := url.PathUnescape(r.URL.EscapedPath())
	a := awsRequest{path, r.Header.Get("X-Amz-Invocation-Type"), r.Header.Get("X-Amz-Log-Type"), r.Header.Get("Authorization"), body}
	f.mu.Lock()
	f.requests = append(f.requests, a)
	f.mu.Unlock()
	w.Header().Set("X-Amzn-RequestId", "req-1")
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/invocations"):
		if f.invoke != nil {
			f.invoke(w, r, a)
			return
		}
		w.WriteHeader(map[string]int{"Event": 202, "DryRun": 204, "RequestResponse": 200}[a.kind])
	case r.Method == http.MethodGet && f.function != nil:
		f.function(w, r)
	case r.Method == http.MethodGet:
		answerFunction(nil)(w, r)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

func (f *fakeAWS) all() []awsRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]awsRequest(nil), f.requests...)
}

// answerFunction is GetFunction's answer of a fit function, changed.
func answerFunction(change map[string]any) func(http.ResponseWriter, *http.Request) {
	c := map[string]any{"FunctionName": "gmaps-worker", "State": "Active", "Runtime": "provided.al2023", "PackageType": "Zip", "Timeout": 600, "MemorySize": 1024, "Architectures": []string{"arm64"}}
	for k, v := range change {
		c[k] = v
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"Configuration": c, "Concurrency": map[string]any{"ReservedConcurrentExecutions": 10}})
	}
}

// awsError answers as AWS does.
func awsError(w http.ResponseWriter, status int, kind, message string, more ...string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body := map[string]string{"Type": "User", "Message": message}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	_ = json.NewEncoder(w).Encode(body)
}

// ownAWS makes this machine's own AWS settings count for nothing.
func ownAWS(t *testing.T, endpoint string) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA": endpoint, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_REGION": "eu-central-1",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": t.TempDir() + "/none", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/none", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
	} {
		t.Setenv(k, v)
	}
}

func newLambda(t *testing.T, f *fakeAWS, change func(*LambdaConfig)) *Lambda {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	ownAWS(t, srv.URL)
	c := LambdaConfig{Function: "gmaps-worker"}
	if change != nil {
		change(&c)
	}
	l, err := NewLambda(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func held(c *LambdaConfig) { c.Invocation = InvokeRequestResponse }

var lambdaSpec = Spec{
	Name: "gmaps-worker-s1", SpawnID: "s1", JobID: "j1", Priority: 7,
	Env: map[string]string{"GMAPS_MANAGER_URL": "https://gmaps.example", "GMAPS_CONCURRENCY": "4", "GMAPS_PROXIES": "http://u:hunter2@p"},
	Secrets: map[string]string{
		"GMAPS_WORKER_TOKEN": "gw_token", "GMAPS_REDIS_ADDR": "redis:6379", "GMAPS_RABBITMQ_URL": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf",
		"GMAPS_REDIS_PASSWORD": "hunter2",
	},
}

func TestLambdaEventCarriesTheDocumentsPayload(t *testing.T) {
	f := &fakeAWS{}
	l := newLambda(t, f, nil)
	w, err := l.Create(t.Context(), lambdaSpec)
	if err != nil {
		t.Fatal(err)
	}
	if w.ID != "req-1" || !w.Running || w.SpawnID != "s1" {
		t.Errorf("worker %+v, want id req-1, running", w)
	}
	r := f.all()
	if len(r) != 1 || r[0].path != "/2015-03-31/functions/gmaps-worker/invocations" || r[0].kind != "Event" || !strings.Contains(r[0].signature, "/eu-central-1/lambda/aws4_request") {
		t.Fatalf("requests %+v", r)
	}
	want := `{"job_id":"j1","priority":7,"manager_url":"https://gmaps.example","rabbitmq_url":"arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf",` +
		`"redis_addr":"redis:6379","concurrency":4,"spawn_id":"s1","worker_token":"gw_token"}`
	if diff := cmp.Diff(want, string(r[0].body)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	exit, err := l.Collect(t.Context(), w.ID)
	if err != nil || exit.Code != -1 || !exit.EndedAt.IsZero() || !strings.Contains(exit.LogTail, "/aws/lambda/gmaps-worker") || !strings.Contains(exit.LogTail, "req-1") {
		t.Errorf("exit %+v, %v: want a pointer to the log, and no end", exit, err)
	}
}

func TestLambdaPayloadHoldsNoPassword(t *testing.T) {
	f := &fakeAWS{}
	l := newLambda(t, f, nil)
	spec := lambdaSpec
	spec.Secrets = map[string]string{"GMAPS_RABBITMQ_URL": "amqps://u:hunter2@mq:5671/", "GMAPS_REDIS_ADDR": "redis://:hunter2@r:6379", "GMAPS_WORKER_TOKEN": "gw"}
	if _, err := l.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	spec.Secrets = map[string]string{"GMAPS_REDIS_ADDR": "u:hunter2@r:6379", "GMAPS_WORKER_TOKEN": "gw"}
	if _, err := l.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for _, r := range f.all() {
		if body := string(r.body); strings.Contains(body, "hunter2") || strings.Contains(body, "rabbitmq_url") {
			t.Errorf("payload %s", body)
		}
	}
}

func TestLambdaCannotListNorStop(t *testing.T) {
	l := newLambda(t, &fakeAWS{}, nil)
	if _, err := l.List(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("list: %v", err)
	}
	if err := l.Stop(t.Context(), "x", 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("stop: %v", err)
	}
}

func TestLambdaThrottleIsToldAtOnceAndTriedOnce(t *testing.T) {
	for _, kind := range []Invocation{InvokeEvent, InvokeRequestResponse} {
		f := &fakeAWS{invoke: func(w http.ResponseWriter, _ *http.Request, _ awsRequest) {
			w.Header().Set("Retry-After", "30")
			awsError(w, 429, "TooManyRequestsException", "Rate Exceeded.", "Reason", "ReservedFunctionConcurrentInvocationLimitExceeded")
		}}
		l := newLambda(t, f, func(c *LambdaConfig) { c.Invocation = kind })
		_, err := l.Create(t.Context(), lambdaSpec)
		refused, ok := errors.AsType[*Error](err)
		if !ok || refused.Cause != "throttled" || !refused.Retry || !strings.Contains(refused.Error(), "reserved concurrency") || !strings.Contains(refused.Error(), "-spawner-lambda-max-conc") {
			t.Errorf("%s: error %#v", kind, err)
		}
		if n := len(f.all()); n != 1 {
			t.Errorf("%s: %d requests, want 1: the breaker is who tries again", kind, n)
		}
	}
}

func TestLambdaRefusalsNameTheMend(t *testing.T) {
	for name, c := range map[string]struct {
		status        int
		kind, message string
		want          []string
		retry         bool
	}{
		"wrong name":    {404, "ResourceNotFoundException", "Function not found: arn…", []string{"gmaps-worker was not found in region eu-central-1", "-spawner-lambda-function", "-spawner-lambda-region"}, false},
		"denied":        {403, "AccessDeniedException", "User: arn:aws:sts::1:x is not authorized to perform: lambda:InvokeFunction on resource: arn", []string{"denies lambda:InvokeFunction", "IAM policy"}, false},
		"expired":       {403, "ExpiredTokenException", "The security token included in the request is expired", []string{"have expired", "aws sso login"}, false},
		"unknown key":   {403, "UnrecognizedClientException", "The security token included in the request is invalid.", []string{"does not know these credentials", "AWS_ACCESS_KEY_ID"}, false},
		"bad signature": {403, "InvalidSignatureException:", "The request signature we calculated does not match", []string{"refused the signature", "clock"}, false},
		"pending":       {409, "ResourceConflictException", "The operation cannot be performed at this time. The function is currently in the following state: Pending", []string{"not ready", "Pending", "wait"}, true},
		"network":       {502, "ENILimitReachedException", "x", []string{"VPC"}, true},
		"too large":     {413, "RequestEntityTooLargeException", "x", []string{"RequestEntityTooLarge", "below every limit"}, false},
		"as documented": {413, "RequestTooLargeException", "x", []string{"RequestTooLarge", "below every limit"}, false},
		"new throttle":  {429, "SomeLaterException", "x", []string{"SomeLaterException", "-spawner-lambda-max-conc"}, true},
		"new refusal":   {403, "SomeLaterException", "x", []string{"SomeLaterException", "IAM policy"}, false},
		"trouble":       {500, "ServiceException", "internal", []string{"ServiceException"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAWS{invoke: func(w http.ResponseWriter, _ *http.Request, _ awsRequest) { awsError(w, c.status, c.kind, c.message) }}
			l := newLambda(t, f, nil)
			err := l.Check(t.Context())
			refused, ok := errors.AsType[*Error](err)
			if !ok || refused.Retry != c.retry {
				t.Fatalf("error %#v, want retry %v", err, c.retry)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if r := f.all(); len(r) != 1 || r[0].kind != "DryRun" {
				t.Errorf("requests %+v, want one DryRun", r)
			}
		})
	}
}

func TestLambdaThatCannotBeReachedSaysWhy(t *testing.T) {
	t.Run("no credentials", func(t *testing.T) {
		srv := httptest.NewServer(&fakeAWS{})
		defer srv.Close()
		ownAWS(t, srv.URL)
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		l, err := NewLambda(t.Context(), LambdaConfig{Function: "f"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no AWS credentials") || !strings.Contains(err.Error(), "AWS_PROFILE") {
			t.Errorf("check: %v", err)
		}
	})
	t.Run("endpoint gone", func(t *testing.T) {
		srv := httptest.NewServer(&fakeAWS{})
		srv.Close()
		ownAWS(t, srv.URL)
		l, err := NewLambda(t.Context(), LambdaConfig{Function: "f"})
		if err != nil {
			t.Fatal(err)
		}
		err = l.Check(t.Context())
		refused, ok := errors.AsType[*Error](err)
		if !ok || refused.Cause != "network" || !refused.Retry || !strings.Contains(err.Error(), srv.URL) || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL") {
			t.Errorf("check: %v", err)
		}
	})
	t.Run("endpoint mute", func(t *testing.T) {
		gone := make(chan struct{})
		f := &fakeAWS{invoke: func(http.ResponseWriter, *http.Request, awsRequest) { <-gone }}
		l := newLambda(t, f, nil)
		defer close(gone)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := l.Create(ctx, lambdaSpec)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "in time") {
			t.Errorf("create: %v: want the deadline's, since nobody knows what came of it", err)
		}
	})
	t.Run("no region", func(t *testing.T) {
		ownAWS(t, "")
		t.Setenv("AWS_REGION", "")
		t.Setenv("AWS_DEFAULT_REGION", "")
		if _, err := NewLambda(t.Context(), LambdaConfig{Function: "f"}); err == nil || !strings.Contains(err.Error(), "spawner-lambda-region") {
			t.Errorf("%v", err)
		}
		l, err := NewLambda(t.Context(), LambdaConfig{Function: "arn:aws:lambda:us-west-2:123456789012:function:f:live"})
		if err != nil || l.cfg.Region != "us-west-2" {
			t.Errorf("an ARN names its region: %v", err)
		}
	})
}

func TestLambdaConfigIsChecked(t *testing.T) {
	ownAWS(t, "")
	for want, c := range map[string]LambdaConfig{
		"spawner-lambda-function: is empty":              {},
		"neither a function's name nor its ARN":          {Function: "a b"},
		"is no ARN of a function":                        {Function: "arn:aws:s3:::bucket"},
		"spawner-lambda-region: eu-west-1":               {Function: "arn:aws:lambda:us-west-2:123456789012:function:f", Region: "eu-west-1"},
		"spawner-lambda-invocation":                      {Function: "f", Invocation: "Sync"},
		"spawner-lambda-max-conc: -1":                    {Function: "f", MaxConc: -1},
		"spawner-lambda-event-age: 1s is not between 1m": {Function: "f", EventAge: time.Second},
	} {
		if _, err := NewLambda(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

func TestLambdaDescribesTheFunction(t *testing.T) {
	f := &fakeAWS{}
	l := newLambda(t, f, nil)
	lines, err := l.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"may be invoked (Event)", "provided.al2023, arm64, 1024 MB, timeout 600 s", "0.0480 USD", "reserved concurrency is 10, below -spawner-lambda-max-conc 100"} {
		if all := strings.Join(lines, "\n"); !strings.Contains(all, want) {
			t.Errorf("%s\ndoes not say %q", all, want)
		}
	}
	if got := l.Limits(); got.Lifetime != 10*time.Minute || math.Abs(got.USDPerSecond-usdPerGBSecondARM) > 1e-12 || got.MaxWorkers != 100 || got.JoinDeadline != 75*time.Second {
		t.Errorf("limits %+v", got)
	}
}

func TestLambdaFunctionThatCannotRunAWorkerIsRefused(t *testing.T) {
	for want, change := range map[string]map[string]any{
		"is Pending":                {"State": "Pending", "StateReason": "The function is being created."},
		"is Inactive":               {"State": "Inactive"},
		"has Failed (no subnet)":    {"State": "Failed", "StateReason": "no subnet"},
		"--runtime provided.al2023": {"Runtime": "nodejs22.x"},
	} {
		l := newLambda(t, &fakeAWS{function: answerFunction(change)}, nil)
		if err := l.Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", change, err, want)
		}
	}
	l := newLambda(t, &fakeAWS{function: answerFunction(map[string]any{"Runtime": "", "PackageType": "Image", "Timeout": 3, "MemorySize": 128})}, nil)
	lines, err := l.Describe(t.Context())
	if all := strings.Join(lines, "\n"); err != nil || !strings.Contains(all, "container image") || !strings.Contains(all, "timeout of 3 s") || !strings.Contains(all, "128 MB are little") {
		t.Errorf("image: %v\n%s", err, all)
	}
}

func TestLambdaThatMayNotBeReadIsAdviceOnly(t *testing.T) {
	f := &fakeAWS{function: func(w http.ResponseWriter, _ *http.Request) {
		awsError(w, 403, "AccessDeniedException", "not authorized to perform: lambda:GetFunction")
	}}
	l := newLambda(t, f, nil)
	lines, err := l.Describe(t.Context())
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "lambda:GetFunction is denied") {
		t.Errorf("%v, %v", lines, err)
	}
	if got := l.Limits(); got.Lifetime != 15*time.Minute || got.USDPerSecond != 0 {
		t.Errorf("limits %+v, want the longest lifetime and no price", got)
	}
}

const reportTail = "START RequestId: r\nwork\nEND RequestId: r\nREPORT RequestId: r\tDuration: 1999.40 ms\tBilled Duration: 2000 ms\tMemory Size: 512 MB\tMax Memory Used: 60 MB\n"

// rig is a function whose invocations end when the test says so.
type rig struct {
	*fakeAWS
	release chan struct{}
}

func newRig(answer func(http.ResponseWriter)) rig {
	r := rig{release: make(chan struct{})}
	r.fakeAWS = &fakeAWS{invoke: func(w http.ResponseWriter, req *http.Request, _ awsRequest) {
		select {
		case <-r.release:
			w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(reportTail)))
			answer(w)
		case <-req.Context().Done():
		}
	}}
	return r
}

// watch counts what Watch tells until the test ends.
func watch(t *testing.T, l *Lambda) <-chan struct{} {
	t.Helper()
	told := make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Watch(ctx, func() { told <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return told
}

func TestLambdaHeldInvocationIsSeenToEnd(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		code   int
		detail string
	}{
		"well": {func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"tasks":3,"results":60,"handed_back":0,"reason":"no more work"}`)
		}, 0, "no more work"},
		"failed":        {failed(`{"errorType":"ManagerRefused","errorMessage":"join: 401"}`), 1, "ManagerRefused: join: 401"},
		"timed out":     {failed(`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r Error: Task timed out after 900.00 seconds"}`), 1, "killed at its timeout"},
		"other arch":    {failed(`{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: r Error: fork/exec /var/task/bootstrap: exec format error"}`), 1, "make lambda ARCH=arm64"},
		"no bootstrap":  {failed(`{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: r Error: Couldn't find valid bootstrap(s)"}`), 1, "bin/lambda/function.zip"},
		"out of memory": {failed(`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited with error: signal: killed"}`), 1, "raise the function's memory"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(c.answer)
			l := newLambda(t, r.fakeAWS, held)
			l.learn(t.Context())
			w, err := l.Create(t.Context(), lambdaSpec)
			if err != nil || w.ID != "gmaps-worker-s1" || !w.Running {
				t.Fatalf("create: %+v, %v", w, err)
			}
			if _, err := l.Collect(t.Context(), w.ID); err == nil || !strings.Contains(err.Error(), "runs") {
				t.Errorf("collect of a running worker: %v", err)
			}
			if again, err := l.Create(t.Context(), lambdaSpec); err != nil || again != w {
				t.Errorf("create again: %+v, %v; want the same worker", again, err)
			}
			told := watch(t, l)
			close(r.release)
			<-told
			exit, err := l.Collect(t.Context(), w.ID)
			if err != nil || exit.Code != c.code || !strings.Contains(exit.Detail, c.detail) || exit.LogTail != reportTail || exit.EndedAt.IsZero() {
				t.Errorf("exit %+v, %v; want code %d, detail %q", exit, err, c.code, c.detail)
			}
			if want := 2 * 0.5 * usdPerGBSecondARM; math.Abs(exit.CostUSD-want) > 1e-12 {
				t.Errorf("cost %v, want %v", exit.CostUSD, want)
			}
			if err := errors.Join(l.Remove(t.Context(), w.ID), l.Remove(t.Context(), w.ID)); err != nil {
				t.Errorf("remove: %v", err)
			}
			n := 0
			for _, q := range r.all() {
				if q.kind == "RequestResponse" {
					n++
					if q.logType != "Tail" {
						t.Errorf("log type %q, want Tail", q.logType)
					}
				}
			}
			if n != 1 {
				t.Errorf("%d invocations, want 1", n)
			}
		})
	}
}

func failed(payload string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		fmt.Fprint(w, payload)
	}
}

// The Manager may have invoked a second time for a spawn whose first worker was not heard of yet.
func TestLambdaInvocationThatWasTurnedAwayIsNotTheEndOfItsSpawn(t *testing.T) {
	r := newRig(func(w http.ResponseWriter) {
		fmt.Fprint(w, `{"tasks":0,"results":0,"handed_back":0,"reason":"another worker has this spawn"}`)
	})
	l := newLambda(t, r.fakeAWS, held)
	w, err := l.Create(t.Context(), lambdaSpec)
	if err != nil {
		t.Fatal(err)
	}
	told := watch(t, l)
	close(r.release)
	<-told
	if exit, err := l.Collect(t.Context(), w.ID); err != nil || !exit.EndedAt.IsZero() {
		t.Errorf("exit %+v, %v; want none: the first worker runs on", exit, err)
	}
}

// Whether a function runs is not known of a request that went out and was not answered: the row must stay.
func TestLambdaConnectionThatBreaksIsNoRefusal(t *testing.T) {
	for _, kind := range []Invocation{InvokeEvent, InvokeRequestResponse} {
		f := &fakeAWS{invoke: func(http.ResponseWriter, *http.Request, awsRequest) { panic(http.ErrAbortHandler) }}
		l := newLambda(t, f, func(c *LambdaConfig) { c.Invocation = kind })
		_, err := l.Create(t.Context(), lambdaSpec)
		if _, refused := errors.AsType[*Error](err); err == nil || refused || !strings.Contains(err.Error(), "broke before its answer") {
			t.Errorf("%s: error %#v, want one that is no refusal", kind, err)
		}
		if n := len(f.all()); n != 1 {
			t.Errorf("%s: %d requests, want 1: the Manager is who tries again", kind, n)
		}
	}
}

func TestLambdaCloseLetsGoOfHeldInvocations(t *testing.T) {
	r := newRig(func(http.ResponseWriter) {})
	l := newLambda(t, r.fakeAWS, held)
	w, err := l.Create(t.Context(), lambdaSpec)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// It may run on in AWS: nothing is known of its end.
	if exit, err := l.Collect(t.Context(), w.ID); err != nil || !exit.EndedAt.IsZero() {
		t.Errorf("exit %+v, %v; want none", exit, err)
	}
	if _, err := l.Create(t.Context(), lambdaSpec); err == nil {
		t.Error("a closed spawner invokes")
	}
}

// The create's own deadline is far shorter than a function's time.
func TestLambdaHeldInvocationOutlivesItsCreate(t *testing.T) {
	r := newRig(func(w http.ResponseWriter) { fmt.Fprint(w, `{}`) })
	l := newLambda(t, r.fakeAWS, held)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := l.Create(ctx, lambdaSpec)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	told := watch(t, l)
	close(r.release)
	<-told
	if exit, err := l.Collect(t.Context(), w.ID); err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}
