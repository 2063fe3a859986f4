// Command gmaps-scraper gathers places from Google Maps: one shot, as a Manager that spawns workers, or as a worker. See -help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	_ "golang.org/x/crypto/x509roots/fallback" // TLS works in an image that holds this binary alone
	"golang.org/x/term"

	"gmaps-scraper/manager"
	"gmaps-scraper/spawner"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errIncomplete ends a one shot that wrote rows, but may lack some. It has been told already.
var errIncomplete = errors.New("incomplete")

func main() {
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away is a write error like any other, and is cleaned up after
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := loadSecrets(); err != nil {
		fmt.Fprintf(os.Stderr, "gmaps-scraper: %v\n", err)
		os.Exit(exitFailed)
	}
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// loadSecrets puts what the spawner has handed over in a file into this process's environment, where flags are looked for.
func loadSecrets() error {
	path := os.Getenv(spawner.SecretsFile)
	if path == "" {
		return nil
	}
	secrets, err := spawner.ReadSecrets(path)
	for name, value := range secrets {
		err = errors.Join(err, os.Setenv(name, value))
	}
	return err
}

// program is the process as its tests see it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// run does what args say until it is done or ctx ends, and returns the exit code.
func (p program) run(ctx context.Context, args []string) int {
	c, err := parseFlags(args, p.getenv)
	if err == nil {
		err = p.dispatch(ctx, c)
	}
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "gmaps-scraper: %v\n", err)
		return exitUsage
	case errors.Is(err, errIncomplete):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		fmt.Fprintf(p.stderr, "gmaps-scraper: %v\n", err)
		return exitFailed
	}
}

func (p program) dispatch(ctx context.Context, c *config) error {
	switch c.mode {
	case modeHelp:
		printHelp(p.stdout, c.fs)
		return nil
	case modeVersion:
		fmt.Fprintf(p.stdout, "gmaps-scraper %s\n", version)
		return nil
	case modeCompletion:
		printCompletion(p.stdout, c.completion, c.fs)
		return nil
	case modeOpenAPI:
		b, err := manager.OpenAPI()
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(b)
		return err
	case modeHealth:
		return health(ctx, c)
	case modeDoctor:
		return p.doctor(ctx, c)
	case modeManager:
		return p.serveManager(ctx, c)
	case modeWorker:
		return p.serveWorker(ctx, c)
	case modeSimulator:
		return p.serveSimulator(ctx, c)
	default:
		return p.oneShot(ctx, c)
	}
}

// logger writes to stderr: coloured for a person, plain or JSON for a machine.
func (p program) logger(c *config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.logLevel)) // validated
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(p.stderr, &tint.Options{Level: level, TimeFormat: time.DateTime, NoColor: !isTerminal(p.stderr)}))
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
