// Package manager takes jobs over HTTP, leases their tasks to workers, keeps what the workers find, and reconciles the workers that run
// with those that there must be. All it knows is in the store: any instance may die at any time.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
)

// Config is what a Manager is made of. Store is required, and either APIKeys, a key made by FirstKey, or Open.
type Config struct {
	Store store.Store
	// Spawner starts workers. nil: none is started, workers are started by hand.
	Spawner spawner.Spawner
	// Bell is rung when there is something to do. Default: one within this process.
	Bell wakeup.Bell
	// Logger. Default: none.
	Logger *slog.Logger

	// APIKeys are accepted as bearer tokens and at the dashboard's login. Empty: the key that FirstKey made.
	APIKeys []api.Secret
	// Open lets anybody in who reaches the handler. Workers still prove who they are. What comes over loopback must be addressed to an
	// address, to a name without a dot, or to the host of ManagerURL, so that no page on the Web gets in by DNS rebinding.
	Open bool
	// OpenMetrics shows /metrics to anybody.
	OpenMetrics bool

	// LeaseTTL is how long a lease lives without a renewal. Default 30 s, at least 1 s.
	LeaseTTL time.Duration
	// Concurrency is how many tasks a spawned worker runs at a time. Default 4.
	Concurrency int
	// MaxWorkers caps pending + running + stopping spawned workers. 0: no cap of ours.
	MaxWorkers int
	// ManagerURL is how spawned workers reach this Manager.
	ManagerURL string
	// WorkerEnv is added to the environment of spawned workers, WorkerArgs to their arguments.
	WorkerEnv  map[string]string
	WorkerArgs []string
	// AutoRemove removes an ended worker's remains once its exit code and log tail are stored.
	AutoRemove bool
	// Version is shown in stats and on the dashboard.
	Version string
}

func (c *Config) validate() error {
	if c.Bell == nil {
		c.Bell = &wakeup.Memory{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 30 * time.Second
	}
	if c.Concurrency == 0 {
		c.Concurrency = 4
	}
	switch {
	case c.Store == nil:
		return errors.New("store: is missing")
	case c.LeaseTTL < time.Second:
		return fmt.Errorf("lease ttl: %s is below 1s", c.LeaseTTL)
	case c.Concurrency < 1:
		return fmt.Errorf("concurrency: %d is below 1", c.Concurrency)
	case c.MaxWorkers < 0:
		return fmt.Errorf("max workers: %d is below 0", c.MaxWorkers)
	}
	for i, k := range c.APIKeys {
		if k == "" {
			return fmt.Errorf("api key %d: is empty", i+1)
		}
	}
	return nil
}

// Manager is one instance. Its handler may serve before, while and after Run runs; workers are started only while it does.
type Manager struct {
	cfg     Config
	store   store.Store
	bell    wakeup.Bell
	log     *slog.Logger
	auth    *authenticator
	metrics *metrics
	touches *touches
	rec     *reconciler
	handler http.Handler
	started time.Time
	// stopping is closed when Run is told to end, so that long polls and streams end too and nothing more is leased.
	stopping chan struct{}
}

// New makes a Manager and reads the installation's secret from the store. It starts nothing.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	sign, err := newSigner(ctx, cfg.Store)
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	keys := make([]keyHash, 0, len(cfg.APIKeys)+1)
	for _, k := range cfg.APIKeys {
		keys = append(keys, hashKey(k.Reveal()))
	}
	if len(keys) == 0 && !cfg.Open {
		k, err := storedKey(ctx, cfg.Store)
		if err != nil {
			return nil, fmt.Errorf("manager: %w", err)
		}
		keys = append(keys, k)
	}
	m := &Manager{
		cfg: cfg, store: cfg.Store, bell: cfg.Bell, log: cfg.Logger,
		auth:     newAuthenticator(sign, keys, cfg),
		metrics:  newMetrics(cfg.Store),
		touches:  newTouches(),
		started:  time.Now().UTC(),
		stopping: make(chan struct{}),
	}
	m.rec = newReconciler(reconcilerConfig{
		Store: cfg.Store, Spawner: cfg.Spawner, Bell: cfg.Bell, Token: sign.spawnToken,
		ManagerURL: cfg.ManagerURL, Env: cfg.WorkerEnv, Args: cfg.WorkerArgs,
		Concurrency: cfg.Concurrency, MaxWorkers: cfg.MaxWorkers, AutoRemove: cfg.AutoRemove, LeaseTTL: cfg.LeaseTTL,
		Logger: cfg.Logger, Registerer: m.metrics.registry,
	})
	if m.handler, err = m.routes(); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return m, nil
}

// Handler serves the API, the dashboard, health and metrics.
func (m *Manager) Handler() http.Handler { return m.handler }

// Run reconciles workers and ends what is over until ctx ends, then lets go of its workers: the handler must be served until Run returns,
// because they hand their tasks back. It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	stop := sync.OnceFunc(func() { close(m.stopping) })
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return m.rec.Run(ctx)
}

// Server is an http.Server with the bounds that the handler counts on: the time for a request's header and between requests are the
// server's, the time for bodies and answers is set by the handler for each request, because streams and long polls differ.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// backend is the name of what starts workers.
func (m *Manager) backend() string {
	if m.cfg.Spawner == nil {
		return "none"
	}
	return m.cfg.Spawner.Backend()
}

// ring wakes the reconciler and who polls. It is called after a commit; a lost ring costs one sweep, so its failure is only told.
func (m *Manager) ring(ctx context.Context, why string, id job.ID) {
	if err := m.bell.Ring(context.WithoutCancel(ctx)); err != nil {
		m.log.WarnContext(ctx, "bell not rung", "why", why, "job", id, "err", err)
	}
}
