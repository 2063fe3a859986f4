package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"gmaps-scraper/api"
	"gmaps-scraper/cache"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/web"
	"gmaps-scraper/job"
	"gmaps-scraper/worker"
)

const (
	// drainLead is how long before the deadline a worker stops to fetch; of a short deadline a tenth.
	drainLead = 30 * time.Second
	// joinWithin is less than the Manager waits for a worker's first words: one that it no longer counts must not run on.
	joinWithin = 45 * time.Second
	// spoolBytes is half of the least /tmp that a function has (512 MB; Developer Guide, ephemeral storage, 2026).
	spoolBytes = 256 << 20
	// trusted is for how long connections that nobody used are believed to be there still. A frozen environment does not hear that they were
	// closed, and a NAT that has forgotten one may say nothing: a call on it would hang until its timeout.
	trusted = 20 * time.Second
	// leaveWithin bounds the goodbye. A Manager that does not hear it hears the silence.
	leaveWithin = 3 * time.Second
)

// report is the answer to an invocation.
type report struct {
	Tasks      int    `json:"tasks"`   // done
	Results    int    `json:"results"` // places that the job did not have
	HandedBack int    `json:"handed_back"`
	Reason     string `json:"reason"` // why it ended
}

// function is one environment: it serves one invocation at a time, may be frozen between any two, and keeps its connections meanwhile.
// Nothing of it runs while none is served.
type function struct {
	lookup  func(string) (string, bool)
	stderr  io.Writer
	secrets secrets
	calls   http.RoundTripper // to Managers

	settings *settings // nil: not read yet
	engine   *web.Engine
	redis    *cache.Redis
	redisAt  string // the payload's redis_addr of redis
	served   time.Time
}

func newFunction(lookup func(string) (string, bool), stderr io.Writer) *function {
	calls := http.DefaultTransport.(*http.Transport).Clone()
	calls.MaxIdleConnsPerHost = 64
	return &function{lookup: lookup, stderr: stderr, calls: calls}
}

// Invoke implements lambda.Handler: it is a worker from its join to its goodbye.
func (f *function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	r, err := f.run(ctx, event)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (f *function) run(ctx context.Context, event []byte) (report, error) {
	began := time.Now()
	f.thaw(began)
	defer func() { f.served = wall(time.Now()) }()
	p, err := parsePayload(event)
	if err != nil {
		return report{}, err
	}
	if err := f.prepare(ctx, &p); err != nil {
		return report{}, err
	}
	log := f.settings.log
	if at, ok := lambdacontext.FromContext(ctx); ok {
		log = log.With("request", at.AwsRequestID)
	}
	client, err := api.NewClient(p.ManagerURL, api.Secret(p.WorkerToken), f.calls)
	if err != nil {
		return report{}, failf(badPayload, "manager_url: %v", err)
	}
	var seen worker.Seen = &cache.Memory{}
	if f.redis != nil {
		seen = f.redis
	}
	until, lead := drainAt(ctx, began)
	w, err := worker.New(worker.Config{
		Source: client, Engine: f.engine, Seen: seen, SpawnID: job.SpawnID(p.SpawnID), Concurrency: p.Concurrency, Version: version, Logger: log,
		SpoolDir: os.TempDir(), SpoolBytes: spoolBytes, JoinWithin: joinWithin, DrainTimeout: lead * 8 / 10,
	})
	if err != nil {
		return report{}, failf(workerFailed, "%v", err)
	}
	working, stop := context.WithDeadline(ctx, until)
	defer stop()
	err = w.Run(working)
	f.leave(ctx, client, w, err, began, log)
	if err != nil {
		return report{}, failure(err)
	}
	sum := w.Summary()
	r := report{Tasks: sum.Done, Results: sum.Places, HandedBack: sum.HandedBack, Reason: string(w.Ending())}
	if w.Ending() == worker.EndedDrained {
		r.Reason = "deadline"
	}
	return r, nil
}

// thaw drops connections that may have gone while nothing ran.
func (f *function) thaw(now time.Time) {
	if idle := wall(now).Sub(f.served); idle >= 0 && idle < trusted {
		return
	}
	if t, ok := f.calls.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	if f.engine != nil {
		f.engine.Close() // it opens others
	}
}

// wall is t by the clock on the wall: the other one may stand still while the environment is frozen.
func wall(t time.Time) time.Time { return t.Round(0) }

// drainAt is when the worker must begin to end, and how long before its deadline that is.
func drainAt(ctx context.Context, now time.Time) (time.Time, time.Duration) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = now.Add(15 * time.Minute)
	}
	lead := min(drainLead, max(deadline.Sub(now), 0)/10)
	return deadline.Add(-lead), lead
}

// leave says goodbye: nobody else can tell the Manager of the end of an invocation that was not waited for.
func (f *function) leave(ctx context.Context, client *api.Client, w *worker.Worker, failed error, began time.Time, log *slog.Logger) {
	if failed == nil && w.Ending() == worker.EndedTaken || worker.IsNoAnswer(failed) {
		return // another's spawn, or nobody to say it to
	}
	l := api.Leave{Ran: job.Duration(time.Since(began).Round(time.Millisecond))}
	if failed != nil {
		l.ExitCode, l.Reason = 1, line(failed.Error())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	for try := 1; ; try++ {
		err := client.Leave(ctx, l)
		if err == nil || !api.Retryable(err) || ctx.Err() != nil || try == 3 {
			if err != nil {
				log.Debug("goodbye was not heard", "err", err)
			}
			return
		}
	}
}

// line is a text as the Manager takes it: without control characters, and not too long.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.ToValidUTF8(text[:min(len(text), 1000)], "")
}

// failure is the error of a worker with its type.
func failure(err error) error {
	if known, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
		return known
	}
	var said *api.Problem
	switch {
	case worker.IsNoAnswer(err):
		return failf(managerUnreachable, "manager_url: %v; is it reached from the function's network?", err)
	case errors.As(err, &said):
		return failf(managerRefused, "%v", err)
	}
	return failf(workerFailed, "%v", err)
}

// prepare resolves the payload's references and makes what outlives an invocation, unless it is there from an earlier one.
func (f *function) prepare(ctx context.Context, p *payload) error {
	var err error
	if p.ManagerURL, err = f.secrets.resolve(ctx, "manager_url", p.ManagerURL); err != nil {
		return err
	}
	if p.WorkerToken, err = f.secrets.resolve(ctx, "worker_token", p.WorkerToken); err != nil {
		return err
	}
	if err := checkURL("manager_url", p.ManagerURL); err != nil {
		return err
	}
	if f.settings == nil {
		s, err := readSettings(ctx, f.lookup, &f.secrets, f.stderr)
		if err != nil {
			return err
		}
		f.settings = &s
	}
	if err := f.openRedis(ctx, p); err != nil {
		return err
	}
	if f.engine != nil {
		return nil
	}
	c := f.settings.web
	c.Logger, c.Drift = f.settings.log, &gmaps.Drift{}
	if f.redis != nil {
		c.Limiter = f.redis
	}
	engine, err := web.New(c)
	if err != nil {
		return failf(badSetting, "%s", variables.Replace(err.Error()))
	}
	f.engine = engine
	return nil
}

// variables turns the fields that a refusal of the engine names into the variables that they come from.
var variables = strings.NewReplacer("BaseURL", "GMAPS_MAPS_URL", "Proxies", "GMAPS_PROXIES", "RatePerSecond", "GMAPS_RATE",
	"InFlight", "GMAPS_IN_FLIGHT", "Timeout", "GMAPS_TIMEOUT", "Retries", "GMAPS_RETRIES", "DirectName", "GMAPS_EXIT_NAME")

// openRedis connects to the payload's Redis, once for as long as payloads name the same. The worker does without one that does not answer.
func (f *function) openRedis(ctx context.Context, p *payload) error {
	if f.redis != nil && f.redisAt == p.RedisAddr || f.redis == nil && p.RedisAddr == "" {
		return nil
	}
	if f.redis != nil {
		f.redis.Close()
		f.redis = nil
	}
	if f.engine != nil { // its limits are those of another Redis, or of none
		f.engine.Close()
		f.engine = nil
	}
	if p.RedisAddr == "" {
		return nil
	}
	for try := 1; ; try++ {
		addr, err := f.secrets.resolve(ctx, "redis_addr", p.RedisAddr)
		if err != nil {
			return err
		}
		r, err := cache.OpenRedis(ctx, cache.RedisConfig{Addr: addr, Password: f.settings.redisPassword, TLS: f.settings.redisTLS, Logger: f.settings.log})
		if err == nil {
			f.redis, f.redisAt = r, p.RedisAddr
			return nil
		}
		if try > 1 || !f.secrets.forget() {
			f.settings.log.Warn("worker does without Redis", "err", err)
			return nil
		}
		s, err := readSettings(ctx, f.lookup, &f.secrets, f.stderr) // a password may have been rotated
		if err != nil {
			return err
		}
		f.settings = &s
	}
}
