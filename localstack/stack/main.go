// Command stack is the offline form of make local-stack: the real Manager with workers on the local Lambda emulator, real PostgreSQL, RabbitMQ
// and Redis, and a simulator in place of Google Maps. It finds the servers where test/services says, and nothing is left when it ends:
//
//	go run ./test/services -- go run ./localstack/stack
//
// localstack/up.sh calls it, and for the form with LocalStack asks it for -check and -announce only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// Exit codes. Ending because one was told to is what it is for.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	runtime.LockOSThread() // what this thread starts dies with it: see dieWithUs
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what the flags and the environment say.
type options struct {
	bin, function                          string
	managerPort, simulatorPort, lambdaPort int
	check, announce                        bool

	key                       string
	postgres, rabbitmq, redis string
}

// parse reads args. Its error is one of usage.
func parse(args []string, getenv func(string) string, out io.Writer) (options, error) {
	o := options{
		key: getenv("GMAPS_API_KEY"), postgres: getenv("GMAPS_TEST_POSTGRES"), rabbitmq: getenv("GMAPS_TEST_RABBITMQ"), redis: getenv("GMAPS_TEST_REDIS"),
	}
	fs := flag.NewFlagSet("stack", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.bin, "bin", "bin/gmaps-scraper", "the `program`")
	fs.StringVar(&o.function, "function", "bin/lambda/function.zip", "the function's `zip`")
	fs.IntVar(&o.managerPort, "port", 8080, "`port` of the Manager on 127.0.0.1")
	fs.IntVar(&o.simulatorPort, "simulator-port", 9090, "`port` of the simulator")
	fs.IntVar(&o.lambdaPort, "lambda-port", 4566, "`port` of the AWS endpoint")
	fs.BoolVar(&o.check, "check", false, "only say whether it could start")
	fs.BoolVar(&o.announce, "announce", false, "only print where everything is, and what to try")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(out, "stack runs the whole system with workers on an emulated AWS Lambda. make local-stack calls it.")
			fs.SetOutput(out)
			fs.PrintDefaults()
		}
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; all options are flags, see -help", fs.Arg(0))
	}
	for _, p := range o.ports() {
		if p.number < 1 || p.number > 65535 {
			return o, fmt.Errorf("-%s: %d is no port, 1 to 65535", p.flag, p.number)
		}
	}
	return o, nil
}

// port is one that the user may choose, by a variable of make local-stack.
type port struct {
	flag, variable, of string
	number             int
}

func (o options) ports() []port {
	return []port{
		{"port", "GMAPS_PORT", "the Manager", o.managerPort},
		{"simulator-port", "SIMULATOR_PORT", "the simulator", o.simulatorPort},
		{"lambda-port", "LAMBDA_PORT", "the AWS endpoint", o.lambdaPort},
	}
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (o options) managerURL() string   { return "http://" + local(o.managerPort) }
func (o options) simulatorURL() string { return "http://" + local(o.simulatorPort) }
func (o options) lambdaURL() string    { return "http://" + local(o.lambdaPort) }

// run does what args say until ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, os.Getenv, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	code := exitUsage
	if err == nil {
		code = exitFailed
		switch {
		case o.check:
			err = o.checked(ctx)
		case o.announce:
			o.announced(stdout, "LocalStack")
		default:
			err = o.stack(ctx, stdout)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "stack: %v\n", err)
		return code
	}
	return exitOK
}

// checked says what stands in the way, before anything is started.
func (o options) checked(ctx context.Context) error {
	var errs []error
	for _, path := range []string{o.bin, o.function} {
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, fmt.Errorf("%w; mend: make local-stack builds it", err))
		}
	}
	for _, p := range o.ports() {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", local(p.number))
		if err != nil {
			other := p.number%65535 + 1
			errs = append(errs, fmt.Errorf("%s for %s cannot be used: %w; mend: end what listens there, or choose another: make local-stack %s=%d", local(p.number), p.of, err, p.variable, other))
			continue
		}
		if err := l.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// announced prints where everything is. What is to try may be pasted into a shell as it stands.
func (o options) announced(w io.Writer, lambda string) {
	fmt.Fprintf(w, `
Dashboard and API   %s   key %s
Simulator           %s   stands for Google Maps
AWS                 %s   %s, with the function %s
  export AWS_ENDPOINT_URL=%s AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

Try it: a job of the simulator's made-up cafes, and when workers have done it, its rows
  at=%s/api/v1/jobs key='Authorization: Bearer %s'
  id=$(curl -sS $at -H "$key" -H 'Content-Type: application/json' -d '{"lines": "synthetic cafe"}' | grep -oE '[0-9a-f]{8}(-[0-9a-f]{4,12}){4}' | head -n 1)
  curl -sSN $at/$id/stream -H "$key" && curl -sS "$at/$id/export?columns=title,category,rating,address" -H "$key"

Ctrl-C ends it all and leaves nothing; half a minute at most.
`, o.managerURL(), o.key, o.simulatorURL(), o.lambdaURL(), lambda, functionName, o.lambdaURL(), o.managerURL(), o.key)
}
