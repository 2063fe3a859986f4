package lambda_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"gmaps-scraper/localstack/lambda"
)

const (
	testRegion = "eu-west-1"
	// longEnough is when a condition that should hold at once is given up.
	longEnough = 30 * time.Second
)

// order is what testdata/bootstrap takes.
type order struct {
	Do     string `json:"do,omitempty"`
	Value  any    `json:"value,omitempty"`
	Millis int    `json:"millis,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	Code   int    `json:"code,omitempty"`
}

// facts is what testdata/bootstrap answers.
type facts struct {
	Value       any
	PID         int
	UID         int
	Child       int
	Count       int
	Marks       int
	RequestID   string
	InvokedARN  string
	LeftMillis  int64
	Environment map[string]string
	Written     string
	Text        string
}

// stateDir is a temporary folder that the user of the functions can enter.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // made for its owner alone
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// architecture is this machine's, as Lambda calls it.
var architecture = map[string]types.Architecture{"amd64": types.ArchitectureX8664, "arm64": types.ArchitectureArm64}[runtime.GOARCH]

// bootstrapBinary builds testdata/bootstrap, once a run.
var bootstrapBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "bootstrap-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bootstrap")
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", path, "./testdata/bootstrap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if remote() {
		cmd.Env = append(cmd.Env, "GOOS=linux")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build testdata/bootstrap: %w\n%s", err, out)
	}
	return os.ReadFile(path)
})

// bootstrapZip is a deployment package of it.
var bootstrapZip = sync.OnceValues(func() ([]byte, error) {
	b, err := bootstrapBinary()
	if err != nil {
		return nil, err
	}
	return pack("bootstrap", b, 0o755)
})

func pack(name string, content []byte, mode os.FileMode) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Method: zip.Store} // deflating takes seconds under the race detector
	h.SetMode(mode)
	w, err := z.CreateHeader(h)
	if err == nil {
		_, err = w.Write(content)
	}
	err = errors.Join(err, z.Close()) // writes the directory
	return b.Bytes(), err
}

func packed(t *testing.T, name string, content []byte, mode os.FileMode) []byte {
	t.Helper()
	b, err := pack(name, content, mode)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// endpoint is where the contract is tested; empty: an emulator in this process. "aws" is AWS itself.
func endpoint() string {
	if s := os.Getenv("GMAPS_TEST_LAMBDA_ENDPOINT"); s != "" {
		return s
	}
	return os.Getenv("AWS_ENDPOINT_URL")
}

func remote() bool { return endpoint() != "" }

// role is what functions run as; AWS needs one that exists.
func role() string {
	if s := os.Getenv("GMAPS_TEST_LAMBDA_ROLE"); s != "" {
		return s
	}
	return "arn:aws:iam::000000000000:role/test"
}

// contract returns a client of the endpoint under test.
func contract(t *testing.T) *sdk.Client {
	t.Helper()
	switch where := endpoint(); where {
	case "":
		_, client := open(t, lambda.Config{})
		return client
	case "aws":
		cfg, err := awsconfig.LoadDefaultConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return sdk.NewFromConfig(cfg)
	default:
		return dial(where)
	}
}

// awsConfig is of an SDK client that needs nothing from the environment.
func awsConfig(url string) aws.Config {
	return aws.Config{Region: testRegion, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", "")}
}

// dial returns a client that shows every refusal: the SDK's own retries would hide it for seconds.
func dial(url string) *sdk.Client {
	return sdk.NewFromConfig(awsConfig(url), func(o *sdk.Options) { o.RetryMaxAttempts = 1 })
}

// open runs an emulator as long as the test, and a client of it.
func open(t *testing.T, c lambda.Config) (*lambda.Emulator, *sdk.Client) {
	t.Helper()
	e, url := serve(t, c)
	return e, dial(url)
}

func serve(t *testing.T, c lambda.Config) (*lambda.Emulator, string) {
	t.Helper()
	if c.RetryScale == 0 {
		c.RetryScale = 0.0005 // a minute is 30 ms
	}
	if c.Activation == 0 {
		c.Activation = 10 * time.Millisecond
	}
	e, err := lambda.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		s.CloseClientConnections() // of clients that wait for a lost answer
		s.Close()
	})
	return e, s.URL
}

// createInput is a valid function of a name of its own.
func createInput(t *testing.T) *sdk.CreateFunctionInput {
	t.Helper()
	z, err := bootstrapZip()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == '#' || r == '\'' || r == ',' {
			return '-'
		}
		return r
	}, t.Name())
	name = fmt.Sprintf("%.40s-%d", name, time.Now().UnixNano())
	return &sdk.CreateFunctionInput{
		FunctionName: &name, Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Role: aws.String(role()),
		Architectures: []types.Architecture{architecture}, Code: &types.FunctionCode{ZipFile: z}, Timeout: aws.Int32(20), MemorySize: aws.Int32(256),
	}
}

// create makes a function that is active, for as long as the test, and returns its name.
func create(t *testing.T, client *sdk.Client, with ...func(*sdk.CreateFunctionInput)) string {
	t.Helper()
	in := createInput(t)
	for _, f := range with {
		f(in)
	}
	if _, err := client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if remote() {
			_, _ = client.DeleteFunction(context.Background(), &sdk.DeleteFunctionInput{FunctionName: in.FunctionName}) // it may be gone by now
		}
	})
	awaitActive(t, client, *in.FunctionName)
	return *in.FunctionName
}

func awaitActive(t *testing.T, client *sdk.Client, name string) {
	t.Helper()
	waiter := sdk.NewFunctionActiveV2Waiter(client, func(o *sdk.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, time.Second
	})
	if err := waiter.Wait(t.Context(), &sdk.GetFunctionInput{FunctionName: &name}, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// invoke calls the function synchronously; the call itself must succeed.
func invoke(t *testing.T, client *sdk.Client, name string, o order) *sdk.InvokeOutput {
	t.Helper()
	out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeRequestResponse, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryInvoke(ctx context.Context, client *sdk.Client, name string, kind types.InvocationType, o order) (*sdk.InvokeOutput, error) {
	payload, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return client.Invoke(ctx, &sdk.InvokeInput{FunctionName: &name, InvocationType: kind, LogType: types.LogTypeTail, Payload: payload})
}

// ask calls the function and returns its facts; the function must succeed.
func ask(t *testing.T, client *sdk.Client, name string, o order) facts {
	t.Helper()
	out := invoke(t, client, name, o)
	if out.FunctionError != nil {
		t.Fatalf("%+v: %s: %s", o, *out.FunctionError, out.Payload)
	}
	return read(t, out.Payload)
}

func read(t *testing.T, payload []byte) facts {
	t.Helper()
	var f facts
	if err := json.Unmarshal(payload, &f); err != nil {
		t.Fatalf("answer of the function: %v\n%s", err, payload)
	}
	return f
}

// send queues an event.
func send(t *testing.T, client *sdk.Client, name string, o order) {
	t.Helper()
	out, err := tryInvoke(t.Context(), client, name, types.InvocationTypeEvent, o)
	if err != nil {
		t.Fatal(err)
	}
	if out.StatusCode != http.StatusAccepted {
		t.Fatalf("status of an event: %d, want 202", out.StatusCode)
	}
}

// refused checks an error's status and code.
func refused(t *testing.T, err error, status int, codes ...string) {
	t.Helper()
	var api smithy.APIError
	var http interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &http) {
		t.Fatalf("error: %v, want status %d %v", err, status, codes)
	}
	for _, code := range codes {
		if http.HTTPStatusCode() == status && api.ErrorCode() == code {
			return
		}
	}
	t.Fatalf("error: status %d %s, want %d %v", http.HTTPStatusCode(), api.ErrorCode(), status, codes)
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longEnough); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stats returns what the emulator knows of a function.
func stats(t *testing.T, e *lambda.Emulator, name string) lambda.Stats {
	t.Helper()
	s, ok := e.Function(name)
	if !ok {
		t.Fatalf("no function %s", name)
	}
	return s
}
