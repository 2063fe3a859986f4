// Command services runs a command with real servers: PostgreSQL, RabbitMQ and Redis in containers that live as long as the command.
//
//	go run ./test/services [-with postgres,rabbitmq,redis] -- go test ./store/postgres
//
// The command finds them in GMAPS_TEST_POSTGRES (DSN of a superuser), GMAPS_TEST_RABBITMQ (amqp URL) and GMAPS_TEST_REDIS (host:port), and
// the ids of their containers, for tests that look into them, in GMAPS_TEST_POSTGRES_CONTAINER and so on. Tests that pause or kill a server
// start one of their own, from the image that IMAGE_POSTGRES and so on name. It runs in the root of the tree.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	imagesWithin = 10 * time.Minute // pulling or building all of them, once a machine
	createWithin = time.Minute      // of an image that is there
	startWithin  = 3 * time.Minute  // until it serves
	removeWithin = time.Minute
	// endWithin is how long the command may take to end after it was told to.
	endWithin = 30 * time.Second
)

// exit codes of our own; else the command's.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	fs := flag.NewFlagSet("services", flag.ContinueOnError)
	with := fs.String("with", strings.Join(names(), ","), "the servers to start")
	if err := fs.Parse(os.Args[1:]); errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	} else if err != nil {
		os.Exit(exitUsage)
	}
	wanted, err := parseNames(*with)
	if err == nil && fs.NArg() == 0 {
		err = errors.New("no command; as in: go run ./test/services -- go test ./store/postgres")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, wanted, fs.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
	}
	os.Exit(code)
}

// run starts the servers, runs args, removes the servers whatever happened, and returns the exit code of args.
func run(ctx context.Context, wanted []string, args []string) (code int, err error) {
	began := time.Now()
	settings()
	images, err := images(ctx, wanted)
	if err != nil {
		return exitFailed, err
	}
	if err := sweep(ctx); err != nil {
		return exitFailed, fmt.Errorf("remove what a dead run left: %w", err)
	}
	started, err := start(ctx, wanted, images)
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
		defer cancel()
		if removeErr := remove(cleanup); removeErr != nil {
			err = errors.Join(err, removeErr)
			code = max(code, exitFailed)
		}
	}()
	if err != nil {
		return exitFailed, err
	}
	env := os.Environ()
	for _, s := range started {
		env = append(env, s.variable+"="+s.address, s.variable+"_CONTAINER="+s.container.GetContainerID(), "IMAGE_"+strings.ToUpper(s.name)+"="+s.image)
		fmt.Fprintf(os.Stderr, "services: %s (%s) in %.1fs\n", s.name, s.image, s.took.Seconds())
	}
	fmt.Fprintf(os.Stderr, "services: ready in %.1fs\n", time.Since(began).Seconds())
	return command(ctx, env, args)
}

// images asks test/images/build.sh, which pulls or builds what lacks.
func images(ctx context.Context, wanted []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, imagesWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "test/images/build.sh", wanted...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endWithin
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("test/images/build.sh: %w", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, image, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			found[strings.ToLower(strings.TrimPrefix(key, "IMAGE_"))] = image
		}
	}
	return found, nil
}

// command runs args with what the caller has of input and output. When ctx ends, it is asked to end and then made to.
func command(ctx context.Context, env, args []string) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endWithin
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), nil
	case ctx.Err() != nil:
		return 130, nil //nolint:nilerr // it ended because it was told to
	default:
		return exitFailed, err
	}
}

// tail is the end of what r holds, for an error's text.
func tail(r io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(r, 1<<20))
	return strings.TrimSpace(string(b[max(0, len(b)-3000):]))
}
