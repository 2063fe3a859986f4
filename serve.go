package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/cache"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/gmaps/web"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
	"gmaps-scraper/worker"
)

// shutdownGrace is how long requests under way may take after the last worker has gone.
const shutdownGrace = 5 * time.Second

// serveManager runs the Manager until ctx ends, then drains.
func (p program) serveManager(ctx context.Context, c *config) error {
	log := p.logger(c)
	dir, err := c.dataPath()
	if err != nil {
		return err
	}
	parts, err := c.openParts(ctx, dir, log)
	if err != nil {
		return err
	}
	defer parts.Close()
	listener, err := listen(ctx, c.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	keys, err := p.apiKeys(ctx, c, parts.store)
	if err != nil {
		return err
	}
	if c.quarantineDir == "" {
		c.quarantineDir = filepath.Join(dir, "quarantine")
	}
	env, secrets, err := c.workerVars()
	if err != nil {
		return err
	}
	if c.spawner == "lambda" {
		for _, note := range c.untold() {
			log.Info("function not told", "why", note)
		}
	}
	managerURL := c.spawnerManagerURL
	if managerURL == "" {
		managerURL = "http://" + loopbackAddr(listener.Addr())
	}
	g, gctx := errgroup.WithContext(ctx)
	cfg := manager.Config{
		Store: parts.store, Spawner: parts.spawner, Bell: parts.bell, Leader: parts.leader, Parts: parts.health, Logger: log, Version: version,
		APIKeys: keys, Open: c.noAuth, OpenMetrics: c.openMetrics, LeaseTTL: c.leaseTTL, SweepInterval: c.sweepInterval, NoSweep: c.sweepInterval == 0,
		Concurrency: c.spawnerConcurrency, MaxWorkers: c.spawnerMaxWorkers, AutoRemove: c.spawnerAutoRemove,
		ManagerURL: managerURL, WorkerEnv: env, WorkerSecrets: secrets,
	}
	var forWorkers *http.Server // beside -addr
	keepOpen := func(context.Context) error { return nil }
	if parts.route != nil && c.spawnerManagerURL == "" {
		k := &container{
			env: env, secrets: secrets, route: parts.route, addr: listener.Addr().(*net.TCPAddr), open: map[string]bool{}, busy: make(chan struct{}, 1),
			serve: func(l net.Listener) {
				log.Info("listening for workers", "addr", l.Addr().String())
				g.Go(func() error { return ignoreClosed(forWorkers.Serve(l)) })
			},
		}
		cfg.Reach, keepOpen = k.reached, k.keepOpen
	}
	m, err := manager.New(ctx, cfg)
	if err != nil {
		return err
	}
	forWorkers = manager.Server(m.WorkerHandler())
	if c.noAuth && !isLoopback(listener.Addr()) {
		log.Warn("anybody who reaches this address may use the API", "addr", listener.Addr().String())
	}
	log.Info("manager started", "url", "http://"+loopbackAddr(listener.Addr()), "spawner", c.spawner, "data", dir)

	server := manager.Server(m.Handler())
	g.Go(func() error { return ignoreClosed(server.Serve(listener)) })
	g.Go(func() error { return keepOpen(gctx) })
	g.Go(func() error {
		err := m.Run(gctx) // drains: workers still need the API to hand back
		stop, cancel := context.WithTimeout(context.WithoutCancel(gctx), shutdownGrace)
		defer cancel()
		for _, s := range []*http.Server{server, forWorkers} {
			if s.Shutdown(stop) != nil {
				_ = s.Close()
			}
		}
		return err
	})
	err = g.Wait()
	log.Info("manager stopped")
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// apiKeys are the keys of -api-key, or the key made at the first start, which is printed once.
func (p program) apiKeys(ctx context.Context, c *config, st store.Store) ([]api.Secret, error) {
	if c.noAuth {
		return nil, nil
	}
	if c.apiKey != "" {
		var keys []api.Secret
		for _, k := range strings.Split(c.apiKey, ",") {
			keys = append(keys, api.Secret(strings.TrimSpace(k)))
		}
		return keys, nil
	}
	key, created, err := manager.FirstKey(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("make api key: %w", err)
	}
	if created {
		fmt.Fprintf(p.stderr, "\n  API key (shown this once, kept as a hash): %s\n  Set another with %s.\n\n", key.Reveal(), envOf("api-key"))
	}
	return nil, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on -addr %s: %w; choose another with -addr", addr, err)
	}
	return l, nil
}

// loopbackAddr is how this machine reaches a listener: an unspecified host becomes 127.0.0.1.
func loopbackAddr(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serveWorker runs a worker until there is no more work (spawned) or ctx ends.
func (p program) serveWorker(ctx context.Context, c *config) error {
	log := p.logger(c)
	spawnID := job.SpawnID(p.getenv("GMAPS_SPAWN_ID"))
	key := api.Secret(p.getenv("GMAPS_WORKER_TOKEN"))
	concurrency := c.concurrency
	if spawnID == "" {
		key = api.Secret(c.apiKey)
	}
	client, err := api.NewClient(c.managerURL, key, nil)
	if err != nil {
		return usagef("-manager-url: %v", err)
	}
	shared := c.openShared(ctx, spawnID == "", log)
	defer shared.Close()
	engine, err := c.newEngine(shared.limiter, log)
	if err != nil {
		return err
	}
	spool := c.spoolDir
	if spool == "" {
		spool = os.TempDir() // its files have no name, so that none outlives the worker
	}
	w, err := worker.New(worker.Config{
		Source: client, Engine: engine, SpawnID: spawnID, Concurrency: concurrency, Standing: spawnID == "", SpoolDir: spool, Version: version, Logger: log,
		Bell: shared.bell, Seen: shared.seen,
	})
	if err != nil {
		return err
	}
	err = w.Run(ctx)
	if api.IsUnauthorized(err) && spawnID == "" {
		return fmt.Errorf("%w; give the Manager's key with -api-key or %s", err, envOf("api-key"))
	}
	return err
}

// shared is what a worker shares with others, as far as its servers answer: it can do without.
type shared struct {
	bell    worker.Bell
	seen    worker.Seen
	limiter web.Limiter
	closers
}

// openShared connects to the servers that the flags name. A spawned worker has no use for the bell, since it goes when there is no work,
// and would take rings away from those that stay.
func (c *config) openShared(ctx context.Context, standing bool, log *slog.Logger) *shared {
	s := &shared{seen: &cache.Memory{}}
	if c.rabbitmqURL != "" && standing {
		b, err := wakeup.DialAMQP(ctx, c.rabbitmqURL, wakeup.AMQPConfig{Listen: true, Logger: log})
		if err != nil {
			log.Warn("worker does without RabbitMQ", "err", err)
		} else {
			s.bell = b
			s.onClose(noError(b.Close))
		}
	}
	if c.redisAddr != "" {
		r, err := cache.OpenRedis(ctx, c.redis(log))
		if err != nil {
			log.Warn("worker does without Redis", "err", err)
		} else {
			s.seen, s.limiter = r, r
			s.onClose(noError(r.Close))
		}
	}
	return s
}

// newEngine is the engine of -engine, pointed at -maps-url.
func (c *config) newEngine(limiter web.Limiter, log *slog.Logger) (gmaps.Engine, error) {
	proxies, err := c.proxyList()
	if err != nil {
		return nil, err
	}
	engine, err := web.New(web.Config{
		BaseURL: c.mapsURL, Proxies: proxies, RatePerSecond: c.ratePerSecond, InFlight: c.inFlight,
		Retries: c.retries, Timeout: c.timeout, Limiter: limiter, DirectName: c.exitName, Logger: log, Drift: &gmaps.Drift{}, Quarantine: newQuarantine(c.quarantineDir, log).put,
	})
	if err != nil {
		return nil, usagef("%v", err)
	}
	return engine, nil
}

// serveSimulator runs the Google Maps stand-in until ctx ends.
func (p program) serveSimulator(ctx context.Context, c *config) error {
	log := p.logger(c)
	s, err := simulator.New(simulator.Config{
		CapturesDir: c.captures, Synthetic: c.synthetic, Seed: c.seed, Latency: c.latency,
		ErrorRate: c.errorRate, BlockRate: c.blockRate, Consent: c.consent, Logger: log,
	})
	if err != nil {
		return usagef("%s", strings.NewReplacer("CapturesDir", "-captures", "Synthetic", "-synthetic", "Latency", "-latency").Replace(err.Error()))
	}
	listener, err := listen(ctx, c.addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	log.Info("simulator started", "url", "http://"+loopbackAddr(listener.Addr()), "synthetic", c.synthetic, "captures", c.captures)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ignoreClosed(server.Serve(listener)) })
	g.Go(func() error {
		<-gctx.Done()
		return server.Close()
	})
	return g.Wait()
}
