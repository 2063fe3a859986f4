package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"gmaps-scraper/localstack/lambda"
)

const (
	functionName = "gmaps-worker"
	region       = "us-east-1"
	startWithin  = time.Minute // each part, on a machine that is busy
	// Together less than the 30 s that test/services gives its command.
	managerStopsWithin   = 15 * time.Second
	simulatorStopsWithin = 5 * time.Second
	callersLeaveWithin   = 2 * time.Second
)

// stack runs everything until ctx ends or a part does.
func (o options) stack(ctx context.Context, stdout io.Writer) (err error) {
	switch {
	case runtime.GOOS != "linux":
		return fmt.Errorf("the function is a Linux program, and the local Lambda emulator cannot run it on %s; mend: make local-stack, without OFFLINE, runs it in LocalStack's containers", runtime.GOOS)
	case o.postgres == "" || o.rabbitmq == "" || o.redis == "":
		return errors.New("GMAPS_TEST_POSTGRES, GMAPS_TEST_RABBITMQ and GMAPS_TEST_REDIS do not all name servers; mend: make local-stack OFFLINE=1 starts them")
	case o.key == "":
		return errors.New("GMAPS_API_KEY is not set; mend: make local-stack OFFLINE=1 makes one")
	}
	if err := o.checked(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gmaps-local-stack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	simulator, err := start(o.bin, []string{"-simulator", "-addr", local(o.simulatorPort)}, nil, filepath.Join(dir, "simulator.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, simulator.stop(simulatorStopsWithin)) }()
	if err := simulator.answers(ctx, o.simulatorURL()+"/healthz"); err != nil {
		return unlessTold(ctx, err)
	}

	aws, err := o.serveLambda(ctx, dir)
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, aws.stop()) }()
	if err := o.createFunction(ctx); err != nil {
		return unlessTold(ctx, fmt.Errorf("create the function: %w", err))
	}

	manager, err := start(o.bin, []string{
		"-manager", "-addr", local(o.managerPort), "-data-dir", filepath.Join(dir, "data"),
		"-spawner", "lambda", "-spawner-lambda-function", functionName, "-spawner-lambda-region", region, "-spawner-lambda-max-conc", "10",
	}, []string{
		"GMAPS_DSN=" + o.postgres, "GMAPS_RABBITMQ_URL=" + o.rabbitmq, "GMAPS_REDIS_ADDR=" + o.redis, "GMAPS_API_KEY=" + o.key,
		"AWS_ENDPOINT_URL=" + o.lambdaURL(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
	}, filepath.Join(dir, "manager.log"))
	if err != nil {
		return err
	}
	// Stopped first: until then workers may hand back what they have.
	defer func() { err = errors.Join(err, manager.stop(managerStopsWithin)) }()
	if err := manager.answers(ctx, o.managerURL()+"/readyz"); err != nil {
		return unlessTold(ctx, err)
	}

	o.announced(stdout, "the local Lambda emulator")
	fmt.Fprintf(stdout, "Logs, until then: %s/{manager,function,simulator}.log\n", dir)
	select {
	case <-ctx.Done():
		return nil
	case <-manager.done:
		return manager.ended()
	case <-simulator.done:
		return simulator.ended()
	case err := <-aws.failed:
		return fmt.Errorf("serve the local Lambda emulator: %w", err)
	}
}

// unlessTold is nil for what failed only because ctx has ended.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to end
	}
	return err
}

// endpoint is the local Lambda emulator, in this process.
type endpoint struct {
	emulator *lambda.Emulator
	server   *http.Server
	log      *os.File
	failed   chan error // what Serve returned
}

func (o options) serveLambda(ctx context.Context, dir string) (_ *endpoint, err error) {
	log, err := os.Create(filepath.Join(dir, "function.log"))
	if err != nil {
		return nil, err
	}
	e, err := lambda.New(lambda.Config{URL: o.lambdaURL(), Logs: log})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", local(o.lambdaPort))
	if err != nil {
		return nil, errors.Join(err, e.Close(), log.Close())
	}
	s := &endpoint{emulator: e, server: &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}, log: log, failed: make(chan error, 1)}
	go func() { s.failed <- s.server.Serve(l) }()
	return s, nil
}

// stop ends all functions, and then answers no more.
func (s *endpoint) stop() error {
	err := s.emulator.Close()
	ctx, cancel := context.WithTimeout(context.Background(), callersLeaveWithin)
	defer cancel()
	if s.server.Shutdown(ctx) != nil { // a caller that does not leave
		err = errors.Join(err, s.server.Close())
	}
	return errors.Join(err, s.log.Close())
}

// createFunction makes the function as docs/lambda.md does, through the SDK and the endpoint as any user would.
func (o options) createFunction(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	zip, err := os.ReadFile(o.function)
	if err != nil {
		return err
	}
	api := sdk.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: aws.String(o.lambdaURL()), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	architecture := types.ArchitectureX8664
	if runtime.GOARCH == "arm64" {
		architecture = types.ArchitectureArm64
	}
	_, err = api.CreateFunction(ctx, &sdk.CreateFunctionInput{
		FunctionName: aws.String(functionName), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: &types.FunctionCode{ZipFile: zip},
		Role: aws.String("arn:aws:iam::000000000000:role/" + functionName), Architectures: []types.Architecture{architecture},
		MemorySize: aws.Int32(1024), Timeout: aws.Int32(900), Environment: &types.Environment{Variables: map[string]string{"GMAPS_MAPS_URL": o.simulatorURL()}},
	})
	if err != nil {
		return err
	}
	if err := sdk.NewFunctionActiveV2Waiter(api).Wait(ctx, &sdk.GetFunctionInput{FunctionName: aws.String(functionName)}, startWithin); err != nil {
		return err
	}
	_, err = api.PutFunctionEventInvokeConfig(ctx, &sdk.PutFunctionEventInvokeConfigInput{
		FunctionName: aws.String(functionName), MaximumRetryAttempts: aws.Int32(0), MaximumEventAgeInSeconds: aws.Int32(60),
	})
	return err
}

// clean is this process's environment without what would be a setting of the program, or of the SDK.
func clean() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "GMAPS_") && !strings.HasPrefix(pair, "AWS_") {
			env = append(env, pair)
		}
	}
	return env
}
