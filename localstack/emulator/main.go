// Command emulator serves the local Lambda emulator. See -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"gmaps-scraper/localstack/lambda"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const help = `emulator runs AWS Lambda functions on this machine. Point any AWS SDK or tool at it:

  emulator &
  export AWS_ENDPOINT_URL=http://127.0.0.1:9001 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

It runs the code that it is sent: let nobody reach its address whom you would not let run programs here.
State is in memory; SIGTERM, Ctrl-C and even kill -9 end all functions. Look at /_emulator/functions and /_emulator/logs/NAME.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what the flags say.
type options struct {
	addr  string
	debug bool
	lambda.Config
}

// errHelp asks for the help.
var errHelp = flag.ErrHelp

func parse(args []string, out io.Writer) (options, error) {
	o := options{Config: lambda.Config{Secrets: map[string]string{}}}
	fs := flag.NewFlagSet("emulator", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.addr, "addr", "127.0.0.1:9001", "listen on this `address`; port 0 takes a free one")
	sandbox := fs.String("sandbox", "auto", "run functions in a `sandbox`: process, container, or auto: a container where a Docker engine has -sandbox-image")
	fs.StringVar(&o.Image, "sandbox-image", "public.ecr.aws/lambda/provided:al2023", "`image` of container sandboxes; it is not pulled")
	fs.StringVar(&o.Network, "sandbox-network", "host", "Docker `network` of container sandboxes")
	fs.Float64Var(&o.RetryScale, "retry-scale", 1, "multiply the waits of the event queue and the age of events by this `factor` above 0, at most 1")
	fs.StringVar(&o.StateDir, "state", os.TempDir(), "`folder` for unpacked code; what is in it goes when the emulator ends")
	fs.StringVar(&o.Account, "account", "000000000000", "account `id` in ARNs")
	fs.IntVar(&o.Concurrency, "concurrency", 1000, "the account's limit of running invocations")
	fs.IntVar(&o.EventBytes, "event-bytes", 1<<20, "largest payload of an Event; 262144 is what AWS took until late in 2025")
	fs.Func("deny", "refuse this `action`, as lambda:InvokeFunction; may be given again", func(s string) error {
		o.Denied = append(o.Denied, s)
		return nil
	})
	fs.Func("secret", "answer secretsmanager:GetSecretValue: `name=ENV`, the value is in that environment variable; may be given again", func(s string) error {
		name, env, ok := strings.Cut(s, "=")
		value, set := os.LookupEnv(env)
		if !ok || name == "" {
			return errors.New("want name=ENVIRONMENT_VARIABLE")
		}
		if !set {
			return fmt.Errorf("the environment variable %s is not set", env)
		}
		o.Secrets[name] = value
		return nil
	})
	logs := fs.Bool("logs", true, "copy the functions' logs to stderr")
	fs.BoolVar(&o.debug, "debug", false, "log every request")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, errHelp) {
			fmt.Fprint(out, help)
			fs.SetOutput(out)
			fs.PrintDefaults()
		}
		return o, err
	}
	o.Sandbox = lambda.SandboxKind(*sandbox)
	if *logs {
		o.Logs = os.Stderr
	}
	return o, o.check(fs.Args())
}

// check names the flag that is wrong.
func (o options) check(rest []string) error {
	switch _, _, err := net.SplitHostPort(o.addr); {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q; all options are flags, see -help", rest[0])
	case err != nil:
		return fmt.Errorf("-addr: %q: want host:port", o.addr)
	case o.Sandbox != lambda.SandboxAuto && o.Sandbox != lambda.SandboxProcess && o.Sandbox != lambda.SandboxContainer:
		return fmt.Errorf("-sandbox: %q is none of auto, process, container", o.Sandbox)
	case !(o.RetryScale > 0 && o.RetryScale <= 1):
		return fmt.Errorf("-retry-scale: %v is not above 0 and at most 1", o.RetryScale)
	case len(o.Account) != 12 || strings.Trim(o.Account, "0123456789") != "":
		return fmt.Errorf("-account: %q is not 12 digits", o.Account)
	case o.Concurrency < 1:
		return fmt.Errorf("-concurrency: %d is below 1", o.Concurrency)
	case o.EventBytes < 1 || o.EventBytes > 6<<20:
		return fmt.Errorf("-event-bytes: %d is not within 1 and %d", o.EventBytes, 6<<20)
	}
	return nil
}

// run serves until ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, errHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "emulator: %v\n", err)
		return exitUsage
	}
	if err := o.serve(ctx, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "emulator: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func (o options) serve(ctx context.Context, stdout, stderr io.Writer) (err error) {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	o.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return fmt.Errorf("listen on -addr: %w", err)
	}
	defer l.Close()
	o.URL = "http://" + reachable(l.Addr().String())
	e, err := lambda.New(o.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	fmt.Fprintf(stdout, "local Lambda emulator ready: AWS_ENDPOINT_URL=%s, functions run as %s\n", o.URL, e.Sandbox())
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	err = e.Close() // first: callers that wait for a function get their answer
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if shut := server.Shutdown(grace); shut != nil { // a caller that does not leave
		shut = server.Close()
		err = errors.Join(err, shut)
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// reachable is an address under which this machine finds a listener on all of them.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
