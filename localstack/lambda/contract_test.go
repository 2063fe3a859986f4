package lambda_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
)

// The tests of this file hold on any endpoint: GMAPS_TEST_LAMBDA_ENDPOINT or AWS_ENDPOINT_URL names one, "aws" is AWS itself,
// where GMAPS_TEST_LAMBDA_ROLE must name a role. Without either they run against an emulator of their own.

func TestFunctionLivesFromCreateToDelete(t *testing.T) {
	t.Parallel()
	client := contract(t)
	in := createInput(t)
	in.Environment = &types.Environment{Variables: map[string]string{"COLOUR": "red"}}
	in.Description = aws.String("a test")
	created, err := client.CreateFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if created.State != types.StatePending || *created.Version != "$LATEST" {
		t.Errorf("new function: state %s, version %s, want Pending, $LATEST", created.State, *created.Version)
	}
	name := in.FunctionName
	if _, err := client.CreateFunction(t.Context(), in); err == nil {
		t.Error("created twice")
	} else {
		refused(t, err, 409, "ResourceConflictException")
	}
	awaitActive(t, client, *name)

	conf, err := client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: name})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{conf.State, conf.Runtime, *conf.Handler, *conf.Timeout, *conf.MemorySize, conf.Environment.Variables, conf.Architectures, *conf.Description, *conf.CodeSha256}
	want := []any{types.StateActive, in.Runtime, *in.Handler, *in.Timeout, *in.MemorySize, in.Environment.Variables, in.Architectures, *in.Description, *created.CodeSha256}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}

	if _, err := client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: aws.Int32(7), Environment: &types.Environment{Variables: map[string]string{"COLOUR": "blue"}}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the update", func() bool {
		out, err := client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: name})
		return err == nil && out.LastUpdateStatus == types.LastUpdateStatusSuccessful
	})
	if f := ask(t, client, *name, order{}); f.Environment["COLOUR"] != "blue" || f.LeftMillis > 7000 {
		t.Errorf("after the update: COLOUR %q, %d ms left, want blue, at most 7000", f.Environment["COLOUR"], f.LeftMillis)
	}
	z := packed(t, "bootstrap", []byte("#!/bin/false\n"), 0o755)
	updated, err := client.UpdateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: name, ZipFile: z})
	if err != nil {
		t.Fatal(err)
	}
	if *updated.CodeSha256 == *created.CodeSha256 || *updated.Timeout != 7 {
		t.Errorf("updated code: sha256 %s, timeout %d, want another, 7", *updated.CodeSha256, *updated.Timeout)
	}

	if _, err := client.DeleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: name})
	refused(t, err, 404, "ResourceNotFoundException")
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) || missing.Message == nil || !strings.Contains(*missing.Message, "Function not found: arn:aws:lambda:") {
		t.Errorf("a function that is gone: %v, want its ARN in the message", err)
	}
	_, err = tryInvoke(t.Context(), client, *name, types.InvocationTypeEvent, order{})
	refused(t, err, 404, "ResourceNotFoundException")
}

func TestEveryNameFindsTheFunction(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	version, err := client.PublishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: &name, Name: aws.String("live"), FunctionVersion: version.Version}); err != nil {
		t.Fatal(err)
	}
	if a, err := client.GetAlias(t.Context(), &sdk.GetAliasInput{FunctionName: &name, Name: aws.String("live")}); err != nil || *a.FunctionVersion != "1" {
		t.Fatalf("alias: %v, %v, want version 1", a, err)
	}
	arn := strings.TrimSuffix(*version.FunctionArn, ":1")
	account := strings.Split(arn, ":")[4]
	for called, want := range map[string]string{
		name: "$LATEST", name + ":live": "1", name + ":1": "1", arn: "$LATEST", arn + ":live": "1", arn + ":$LATEST": "$LATEST",
		account + ":function:" + name: "$LATEST", account + ":function:" + name + ":live": "1",
	} {
		out := invoke(t, client, called, order{})
		if *out.ExecutedVersion != want {
			t.Errorf("%s: ran version %s, want %s", called, *out.ExecutedVersion, want)
		}
	}
	out, err := client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: &name, Qualifier: aws.String("live")})
	if err != nil || *out.ExecutedVersion != "1" || read(t, out.Payload).InvokedARN != arn+":live" {
		t.Errorf("qualifier live: %v, %v, want version 1 and its ARN", out, err)
	}
	_, err = tryInvoke(t.Context(), client, name+":nowhere", types.InvocationTypeRequestResponse, order{})
	refused(t, err, 404, "ResourceNotFoundException")
}

func TestInvokeRunsTheBootstrap(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client, func(in *sdk.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"COLOUR": "red"}}
	})
	out := invoke(t, client, name, order{Do: "log", Value: "héllo"})
	if out.StatusCode != http.StatusOK || out.FunctionError != nil || *out.ExecutedVersion != "$LATEST" {
		t.Fatalf("status %d, function error %v, version %v, want 200, none, $LATEST", out.StatusCode, out.FunctionError, out.ExecutedVersion)
	}
	f := read(t, out.Payload)
	if f.Value != "héllo" || f.Count != 1 || f.LeftMillis < 1 || f.LeftMillis > 20_000 || f.Written != "yes" || f.UID == 0 {
		t.Errorf("facts: %+v, want the value back, a first invocation of at most 20 s, a writable /tmp, no root", f)
	}
	conf, err := client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if f.InvokedARN != *conf.FunctionArn {
		t.Errorf("invoked ARN %s, want %s", f.InvokedARN, *conf.FunctionArn)
	}
	for k, want := range map[string]string{
		"COLOUR": "red", "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/" + name, "_HANDLER": "bootstrap", "AWS_REGION": strings.Split(*conf.FunctionArn, ":")[3],
	} {
		if got := f.Environment[k]; got != want {
			t.Errorf("the function sees %s=%q, want %q", k, got, want)
		}
	}
	for _, k := range []string{"LAMBDA_TASK_ROOT", "AWS_ACCESS_KEY_ID", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API"} {
		if f.Environment[k] == "" {
			t.Errorf("the function does not see %s", k)
		}
	}
	b, err := base64.StdEncoding.DecodeString(*out.LogResult)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, want := range []string{"START RequestId: " + f.RequestID + " Version: $LATEST\n", "to stdout: héllo\n", "to stderr: héllo\n", "END RequestId: " + f.RequestID + "\n",
		"REPORT RequestId: " + f.RequestID + "\tDuration: ", " ms\tBilled Duration: ", " ms\tMemory Size: 256 MB\tMax Memory Used: ", "Init Duration: "} {
		i := strings.Index(string(b[at:]), want)
		if i < 0 {
			t.Fatalf("log lacks %q in its place:\n%s", want, b)
		}
		at += i
	}
	if out := invoke(t, client, name, order{Do: "long log"}); base64.StdEncoding.DecodedLen(len(*out.LogResult)) > 4<<10+2 {
		t.Errorf("log of %d bytes in base64, want the last 4 KiB", len(*out.LogResult))
	}
}

func TestFunctionErrorsAreAnswers(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	hasty := create(t, client, func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(1) })
	for _, c := range []struct {
		order              order
		kind, message, log string
	}{
		{order{Do: "error"}, "errorString", "as ordered", "as ordered"},
		{order{Do: "panic"}, "string", "as ordered", "Runtime.ExitError"},
		{order{Do: "exit", Code: 7}, "Runtime.ExitError", "Error: Runtime exited with error: exit status 7", "Runtime.ExitError"},
		{order{Do: "exit"}, "Runtime.ExitError", "Error: Runtime exited without providing a reason", "Runtime.ExitError"},
		{order{Do: "sleep", Millis: 60_000}, "Sandbox.Timedout", "Task timed out after 1.00 seconds", "Task timed out after 1.00 seconds"},
		{order{Do: "answer", Bytes: 7 << 20}, "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size", "REPORT"},
	} {
		called := name
		if c.order.Do == "sleep" {
			called = hasty
		}
		out := invoke(t, client, called, c.order)
		var answer struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(out.Payload, &answer); err != nil {
			t.Fatalf("%+v: %v\n%s", c.order, err, out.Payload)
		}
		if out.StatusCode != http.StatusOK || out.FunctionError == nil || *out.FunctionError != "Unhandled" || answer.ErrorType != c.kind || !strings.Contains(answer.ErrorMessage, c.message) {
			t.Errorf("%+v: status %d, function error %v, %+v, want 200, Unhandled, %s: %s", c.order, out.StatusCode, aws.ToString(out.FunctionError), answer, c.kind, c.message)
		}
		if b, _ := base64.StdEncoding.DecodeString(*out.LogResult); !strings.Contains(string(b), c.log) {
			t.Errorf("%+v: log lacks %q:\n%s", c.order, c.log, b)
		}
	}
	if f := ask(t, client, name, order{Value: "again"}); f.Value != "again" {
		t.Errorf("after all that: %+v, want a function that works", f)
	}
}

func TestEnvironmentIsReusedUntilItFails(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	first, second := ask(t, client, name, order{}), ask(t, client, name, order{})
	if second.Count != 2 || second.PID != first.PID {
		t.Errorf("second invocation: count %d, pid %d, want 2 in %d", second.Count, second.PID, first.PID)
	}
	invoke(t, client, name, order{Do: "error"})
	if f := ask(t, client, name, order{}); f.Count != 4 {
		t.Errorf("after an error: count %d, want 4: the environment goes on", f.Count)
	}
	invoke(t, client, name, order{Do: "panic"})
	if f := ask(t, client, name, order{}); f.Count != 1 {
		t.Errorf("after a panic: count %d, want 1: another environment", f.Count)
	}
}

func TestParallelCallsHaveTheirOwnEnvironments(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	const calls = 4
	var all sync.WaitGroup
	var mu sync.Mutex
	streams := map[string]bool{}
	for range calls {
		all.Go(func() {
			out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{Do: "sleep", Millis: 1500})
			if err != nil || out.FunctionError != nil {
				t.Errorf("call: %v, %v", err, out)
				return
			}
			var f facts
			if err := json.Unmarshal(out.Payload, &f); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			streams[f.Environment["AWS_LAMBDA_LOG_STREAM_NAME"]] = true
		})
	}
	all.Wait()
	if len(streams) != calls {
		t.Errorf("%d environments for %d parallel calls", len(streams), calls)
	}
}

func TestReservedConcurrencyIsALimit(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	put := func(n int32) {
		t.Helper()
		if _, err := client.PutFunctionConcurrency(t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n}); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	_, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
	refused(t, err, 429, "TooManyRequestsException")
	var throttled *types.TooManyRequestsException
	if !errors.As(err, &throttled) || throttled.Reason != types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded || aws.ToString(throttled.Message) == "" {
		t.Errorf("throttled: %#v, want the reason and a message", throttled)
	}
	put(1)
	if got, err := client.GetFunctionConcurrency(t.Context(), &sdk.GetFunctionConcurrencyInput{FunctionName: &name}); err != nil || *got.ReservedConcurrentExecutions != 1 {
		t.Errorf("reserved: %v, %v, want 1", got, err)
	}
	long, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		var throttled *types.TooManyRequestsException
		for err := error(&types.TooManyRequestsException{}); errors.As(err, &throttled); { // the calls below may have been first
			_, err = tryInvoke(long, client, name, types.InvocationTypeRequestResponse, order{Do: "sleep", Millis: 15_000})
		}
	})
	waitFor(t, "a second call to be throttled", func() bool {
		_, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
		return err != nil
	})
	stop() // a caller that leaves does not stop the function
	all.Wait()
	_, err = tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
	refused(t, err, 429, "TooManyRequestsException")
	if _, err := client.DeleteFunctionConcurrency(t.Context(), &sdk.DeleteFunctionConcurrencyInput{FunctionName: &name}); err != nil {
		t.Fatal(err)
	}
	ask(t, client, name, order{})
}

func TestWrongRequestsAreRefused(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	for what, c := range map[string]struct {
		change func(*sdk.CreateFunctionInput)
		codes  []string
	}{
		"timeout":      {func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(901) }, []string{"ValidationException"}},
		"no timeout":   {func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(0) }, []string{"ValidationException"}},
		"memory":       {func(in *sdk.CreateFunctionInput) { in.MemorySize = aws.Int32(127) }, []string{"ValidationException"}},
		"too much":     {func(in *sdk.CreateFunctionInput) { in.MemorySize = aws.Int32(10241) }, []string{"ValidationException", "InvalidParameterValueException"}},
		"runtime":      {func(in *sdk.CreateFunctionInput) { in.Runtime = "go1.x" }, []string{"InvalidParameterValueException"}},
		"role":         {func(in *sdk.CreateFunctionInput) { in.Role = aws.String("admin") }, []string{"ValidationException"}},
		"no zip":       {func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = []byte("PK") }, []string{"InvalidParameterValueException"}},
		"architecture": {func(in *sdk.CreateFunctionInput) { in.Architectures = []types.Architecture{"riscv64"} }, []string{"ValidationException"}},
		"name":         {func(in *sdk.CreateFunctionInput) { in.FunctionName = aws.String("no spaces") }, []string{"ValidationException"}},
		"reserved variable": {func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AWS_REGION": "here"}}
		}, []string{"InvalidParameterValueException"}},
		"large environment": {func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"BIG": strings.Repeat("x", 4096)}}
		}, []string{"InvalidParameterValueException"}},
	} {
		in := createInput(t)
		in.Code.ZipFile = packed(t, "bootstrap", []byte("#!/bin/false\n"), 0o755)
		c.change(in)
		_, err := client.CreateFunction(t.Context(), in)
		t.Log(what, err)
		refused(t, err, 400, c.codes...)
	}
	_, err := client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":`)})
	refused(t, err, 400, "InvalidRequestContentException")
	for kind, bytes := range map[types.InvocationType]int{types.InvocationTypeEvent: 1 << 20, types.InvocationTypeRequestResponse: 6 << 20} {
		_, err = tryInvoke(t.Context(), client, name, kind, order{Value: strings.Repeat("x", bytes)})
		refused(t, err, 413, "RequestEntityTooLargeException", "RequestTooLargeException")
	}
	two, hour := int32(3), int32(59)
	_, err = client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumRetryAttempts: &two})
	refused(t, err, 400, "ValidationException", "InvalidParameterValueException")
	_, err = client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumEventAgeInSeconds: &hour})
	refused(t, err, 400, "ValidationException", "InvalidParameterValueException")
	if out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeDryRun, order{}); err != nil || out.StatusCode != http.StatusNoContent {
		t.Errorf("dry run: %v, %v, want 204", out, err)
	}
}

func TestUnsignedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	url := endpoint()
	switch url {
	case "":
		_, url = serve(t, lambdaDefaults)
	case "aws":
		url = "https://lambda." + testRegion + ".amazonaws.com"
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/2015-03-31/functions/f/invocations", bytes.NewReader([]byte("{}")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || !strings.HasPrefix(resp.Header.Get("X-Amzn-ErrorType"), "MissingAuthenticationToken") {
		t.Errorf("unsigned: %d %s, want 403 MissingAuthenticationTokenException", resp.StatusCode, resp.Header.Get("X-Amzn-ErrorType"))
	}
}

func TestEventIsRunAfterItsAnswer(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	if _, err := client.PutFunctionConcurrency(t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	send(t, client, name, order{Do: "mark"})
	waitFor(t, "the event", func() bool {
		out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, order{})
		return err == nil && read(t, out.Payload).Marks == 1
	})
}

func TestEventInvokeConfigIsKept(t *testing.T) {
	t.Parallel()
	client := contract(t)
	name := create(t, client)
	_, err := client.GetFunctionEventInvokeConfig(t.Context(), &sdk.GetFunctionEventInvokeConfigInput{FunctionName: &name})
	refused(t, err, 404, "ResourceNotFoundException")
	if _, err := client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumRetryAttempts: aws.Int32(0), MaximumEventAgeInSeconds: aws.Int32(60)}); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetFunctionEventInvokeConfig(t.Context(), &sdk.GetFunctionEventInvokeConfigInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if *got.MaximumRetryAttempts != 0 || *got.MaximumEventAgeInSeconds != 60 || !strings.HasSuffix(*got.FunctionArn, ":$LATEST") || got.LastModified.IsZero() {
		t.Errorf("config: %+v, want 0 retries, 60 s, of $LATEST", got)
	}
}

func TestBootstrapThatCannotStart(t *testing.T) {
	t.Parallel()
	client := contract(t)
	binary, err := bootstrapBinary()
	if err != nil {
		t.Fatal(err)
	}
	script := []byte("#!/bin/false\n")
	other := bytes.Clone(binary)
	other[18] ^= 62 ^ 183 // the machine in an ELF header: x86-64 becomes arm64, and the reverse
	for what, c := range map[string]struct {
		zip           []byte
		init          string
		kind, message string
	}{
		"missing":            {packed(t, "main", script, 0o755), "", "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s)"},
		"not executable":     {packed(t, "bootstrap", script, 0o644), "", "Runtime.InvalidEntrypoint", "permission denied"},
		"other architecture": {packed(t, "bootstrap", other, 0o755), "", "Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: exec format error"},
		"no program":         {packed(t, "bootstrap", []byte("\x00\x01\x02"), 0o755), "", "Runtime.InvalidEntrypoint", "exec format error"},
		"exits":              {nil, "exit", "Runtime.ExitError", "Runtime exited with error: exit status 3"},
	} {
		name := create(t, client, func(in *sdk.CreateFunctionInput) {
			if c.zip != nil {
				in.Code.ZipFile = c.zip
			}
			in.Environment = &types.Environment{Variables: map[string]string{"INIT": c.init}}
		})
		out := invoke(t, client, name, order{})
		var answer struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(out.Payload, &answer); err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.FunctionError) != "Unhandled" || answer.ErrorType != c.kind || !strings.Contains(answer.ErrorMessage, c.message) {
			t.Errorf("%s: %v %+v, want Unhandled %s: %s", what, aws.ToString(out.FunctionError), answer, c.kind, c.message)
		}
	}
}
