package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"gmaps-scraper/job"
	emulator "gmaps-scraper/localstack/lambda"
)

// benchColdStart is B12: from an Invoke that finds no environment to the worker's first request at the Manager. The baseline is the same
// bootstrap, started by hand beside a Runtime API that hands it the same payload.
func benchColdStart(ctx context.Context, rounds int) (_ result, err error) {
	c, err := newColdStart(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	const samples = 20 // of a round
	r := ratio{name: "p50", goal: atMost(1.5)}
	var ours, bare []time.Duration
	for range rounds {
		ours, bare = nil, nil
		for range samples {
			a, err := c.invoke(ctx)
			if err != nil {
				return result{}, err
			}
			b, err := c.exec(ctx)
			if err != nil {
				return result{}, fmt.Errorf("baseline: %w", err)
			}
			ours, bare = append(ours, a), append(bare, b)
		}
		r.samples = append(r.samples, float64(percentile(ours, 50))/float64(percentile(bare, 50)))
	}
	return result{ratios: []ratio{r}, notes: []string{
		fmt.Sprintf("last round: p50 %v ÷ %v; function.zip %.1f MB", percentile(ours, 50).Round(time.Millisecond), percentile(bare, 50).Round(time.Millisecond), float64(c.zipBytes)/1e6),
	}}, nil
}

const coldFunction = "gmaps-worker"

// coldStart is an emulator that keeps no environment, a Manager of few words, and the bootstrap by itself.
type coldStart struct {
	manager, aws *httptest.Server
	emulator     *emulator.Emulator
	client       *lambda.Client
	joined       chan time.Time
	bootstrap    string
	zipBytes     int
}

func newColdStart(ctx context.Context) (_ *coldStart, err error) {
	zip := os.Getenv("GMAPS_TEST_FUNCTION")
	if zip == "" {
		return nil, errors.New("needs the function in GMAPS_TEST_FUNCTION: make bench")
	}
	code, err := os.ReadFile(zip)
	if err != nil {
		return nil, err
	}
	c := &coldStart{joined: make(chan time.Time, 1), bootstrap: filepath.Join(filepath.Dir(zip), "bootstrap"), zipBytes: len(code)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	answers, err := newCanned(keyword, c.joined)
	if err != nil {
		return nil, err
	}
	answers.idle = true
	c.manager = httptest.NewServer(answers)
	if c.emulator, err = emulator.New(emulator.Config{IdleTTL: time.Millisecond}); err != nil {
		return nil, err
	}
	c.aws = httptest.NewServer(c.emulator)
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(c.aws.URL),
		config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "bench", SecretAccessKey: "bench"}, nil
		})))
	if err != nil {
		return nil, err
	}
	c.client = lambda.NewFromConfig(cfg)
	architecture := types.ArchitectureX8664
	if runtime.GOARCH == "arm64" {
		architecture = types.ArchitectureArm64
	}
	_, err = c.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String(coldFunction), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: &types.FunctionCode{ZipFile: code},
		Role: aws.String("arn:aws:iam::000000000000:role/bench"), Architectures: []types.Architecture{architecture}, MemorySize: aws.Int32(1024), Timeout: aws.Int32(60),
	})
	if err != nil {
		return nil, err
	}
	return c, lambda.NewFunctionActiveV2Waiter(c.client).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(coldFunction)}, time.Minute)
}

func (c *coldStart) close() (err error) {
	if c.aws != nil {
		c.aws.Close()
	}
	if c.emulator != nil {
		err = c.emulator.Close()
	}
	if c.manager != nil {
		c.manager.Close()
	}
	return err
}

func (c *coldStart) payload() []byte {
	b, err := json.Marshal(map[string]any{
		"job_id": string(job.NewID()), "spawn_id": string(job.NewSpawnID()), "worker_token": "bench", "manager_url": c.manager.URL, "concurrency": 1,
	})
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}

// invoke is one sample of ours.
func (c *coldStart) invoke(ctx context.Context) (time.Duration, error) {
	before, _ := c.emulator.Function(coldFunction)
	begin := time.Now()
	out, err := c.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(coldFunction), Payload: c.payload()})
	if err != nil {
		return 0, err
	}
	if out.FunctionError != nil {
		return 0, fmt.Errorf("the function failed: %s", out.Payload)
	}
	at, err := await(ctx, c.joined)
	if err != nil {
		return 0, err
	}
	if after, _ := c.emulator.Function(coldFunction); after.ColdStarts != before.ColdStarts+1 {
		return 0, errors.New("an environment was used twice: that start was not cold")
	}
	for { // until it has been thrown away
		if s, _ := c.emulator.Function(coldFunction); len(s.Environments) == 0 {
			return at.Sub(begin), nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// exec is one sample of the baseline.
func (c *coldStart) exec(ctx context.Context) (time.Duration, error) {
	const path = "/2018-06-01/runtime/invocation/"
	payload, answered := c.payload(), make(chan struct{})
	var once sync.Once
	given := make(chan struct{}, 1)
	given <- struct{}{}
	gone, leave := context.WithCancel(ctx)
	defer leave()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	api := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == path+"next":
			select {
			case <-given:
				w.Header().Set("Lambda-Runtime-Aws-Request-Id", "bench")
				w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
				_, _ = w.Write(payload) // who does not read it is not measured
			case <-gone.Done():
			}
		case strings.HasPrefix(r.URL.Path, path):
			w.WriteHeader(http.StatusAccepted)
			once.Do(func() { close(answered) })
		}
	})}
	go func() { _ = api.Serve(l) }() // until it is closed
	defer api.Close()
	begin := time.Now()
	cmd := exec.CommandContext(gone, c.bootstrap)
	cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), "AWS_REGION=us-east-1", "TMPDIR=" + os.TempDir()}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	at, err := await(ctx, c.joined)
	if err == nil {
		select {
		case <-answered:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	leave()
	_ = cmd.Wait() // killed
	return at.Sub(begin), err
}
