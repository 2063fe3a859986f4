package test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"gmaps-scraper/job"
	emulator "gmaps-scraper/localstack/lambda"
)

// function is a Lambda function's settings. Its zero value is one that these tests do not run into the limits of.
type function struct {
	// timeout of an invocation. Default 1 min.
	timeout time.Duration
	// reserved concurrency. 0: none.
	reserved int
	// faults are what Lambda does to invocations, in order.
	faults []emulator.Rule
	// denied actions, as "lambda:InvokeFunction".
	denied []string
	// pending is how long the function stays Pending. 0: a moment.
	pending time.Duration
	// architecture default: that of this machine, for which the zip is built.
	architecture types.Architecture
}

// functionName is the document's.
const functionName = "gmaps-worker"

// functions is the ground of -spawner lambda: the local Lambda emulator, in this process, runs the real bootstrap of the real zip. Its own
// counts say how many invocations ever ran at once.
type functions struct {
	w        *world
	emulator *emulator.Emulator
	server   *httptest.Server
	made     bool
}

func newFunctions(w *world) *functions {
	w.t.Helper()
	fromEnv(w.t, "GMAPS_TEST_FUNCTION") // or skip
	f := w.setup.function
	e, err := emulator.New(emulator.Config{Denied: f.denied, Activation: f.pending})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := e.SetFaults(f.faults...); err != nil {
		w.t.Fatal(err)
	}
	return &functions{w: w, emulator: e, server: httptest.NewServer(e)}
}

func (*functions) host() string            { return "127.0.0.1" }
func (*functions) reach(s servers) servers { return s }

func (f *functions) flags(maps string) []string {
	f.create(maps)
	return []string{"-spawner", "lambda", "-spawner-lambda-function", functionName, "-spawner-lambda-region", "us-east-1"}
}

func (f *functions) env() []string {
	return []string{"AWS_ENDPOINT_URL=" + f.server.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true"}
}

// create makes the function as docs/lambda.md says, once.
func (f *functions) create(maps string) {
	t := f.w.t
	t.Helper()
	if f.made {
		return
	}
	f.made = true
	zip, err := os.ReadFile(fromEnv(t, "GMAPS_TEST_FUNCTION"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	api := f.client(t)
	as := f.w.setup.function
	here := map[string]types.Architecture{"amd64": types.ArchitectureX8664, "arm64": types.ArchitectureArm64}[runtime.GOARCH]
	_, err = api.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String(functionName), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: &types.FunctionCode{ZipFile: zip},
		Role: aws.String("arn:aws:iam::000000000000:role/gmaps-worker"), Architectures: []types.Architecture{cmp.Or(as.architecture, here)},
		MemorySize: aws.Int32(1024), Timeout: aws.Int32(int32(cmp.Or(as.timeout, time.Minute).Seconds())),
		Environment: &types.Environment{Variables: map[string]string{"GMAPS_MAPS_URL": maps}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if as.pending > 0 {
		return
	}
	if err := lambda.NewFunctionActiveV2Waiter(api).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(functionName)}, patience); err != nil {
		t.Fatal(err)
	}
	_, err = api.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: aws.String(functionName), MaximumRetryAttempts: aws.Int32(0), MaximumEventAgeInSeconds: aws.Int32(60),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := as.reserved; n > 0 {
		_, err := api.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String(functionName), ReservedConcurrentExecutions: aws.Int32(int32(n))})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (f *functions) client(t *testing.T) *lambda.Client {
	t.Helper()
	c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(f.server.URL),
		config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	return lambda.NewFromConfig(c)
}

// stats are the emulator's own of the function.
func (f *functions) stats() emulator.Stats {
	s, _ := f.emulator.Function(functionName)
	return s
}

func (f *functions) workers() []worker {
	var list []worker
	for _, env := range f.stats().Environments {
		var payload struct {
			SpawnID string `json:"spawn_id"`
			JobID   string `json:"job_id"`
		}
		if env.PID == 0 || json.Unmarshal(env.Payload, &payload) != nil {
			continue
		}
		list = append(list, worker{
			id: strconv.Itoa(env.PID), spawn: job.SpawnID(payload.SpawnID), job: job.ID(payload.JobID),
			act: func(d deed) error { return syscall.Kill(-env.PID, signals[d]) },
		})
	}
	return list
}

// left are invocations that run or wait for it; environments that are kept for the next one are Lambda's own.
func (f *functions) left() []string {
	s := f.stats()
	var left []string
	for _, x := range f.workers() {
		left = append(left, "invocation for spawn "+string(x.spawn))
	}
	if s.Queued > 0 {
		left = append(left, fmt.Sprintf("%d events", s.Queued))
	}
	return left
}

func (f *functions) raze() {
	if f.w.t.Failed() {
		log := f.emulator.Log(functionName)
		f.w.t.Logf("the function's log ends:\n%s", log[max(0, len(log)-4000):])
	}
	f.server.Close()
	if err := f.emulator.Close(); err != nil {
		f.w.t.Errorf("close the Lambda emulator: %v", err)
	}
}
