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
	// Leader spares several Managers of one store the same work. nil: this one leads.
	Leader Leader
	// Parts are shown at /readyz and /metrics beside the store and the reconciler. The Manager does without any of them, only slower.
	Parts []Part
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
	// SweepInterval is how often the Manager looks without having been woken. Default 2 s.
	SweepInterval time.Duration
	// NoSweep lets it look only when woken: what nobody told it of, such as a dead worker, is then lost. It is there to show that.
	NoSweep bool
	// Concurrency is how many tasks a spawned worker runs at a time. Default 4.
	Concurrency int
	// MaxWorkers caps pending + running + stopping spawned workers. 0: no cap of ours.
	MaxWorkers int
	// ManagerURL is how spawned workers reach this Manager.
	ManagerURL string
	// WorkerEnv and WorkerSecrets are added to the environment of spawned workers, the latter out of sight where the backend can, WorkerArgs
	// to their arguments.
	WorkerEnv     map[string]string
	WorkerSecrets map[string]string
	WorkerArgs    []string
	// Reach finds how spawned workers find their way, where that is not known from the beginning: it is asked before each start. Its
	// *spawner.Error is that of the start. nil: ManagerURL, WorkerEnv and WorkerSecrets say it.
	Reach func(context.Context) (Reach, error)
	// AutoRemove removes an ended worker's remains once its exit code and log tail are stored.
	AutoRemove bool
	// Version is shown in stats and on the dashboard.
	Version string
}

// Reach is what spawned workers are told to find this Manager and the servers that they share with it.
type Reach struct {
	ManagerURL   string
	Env, Secrets map[string]string
}

// Leader tells whether this Manager is the one to sweep and reconcile now. Two that both believe it cost work and nothing else.
type Leader interface {
	Lead(ctx context.Context) (bool, error)
}

// Part is a server that the Manager uses and can do without.
type Part struct {
	Name string
	// Health returns at once. Its detail is shown to anybody who reaches the Manager.
	Health func() (ok bool, detail string)
}

func (c *Config) validate() error {
	if c.Reach == nil {
		reach := Reach{c.ManagerURL, c.WorkerEnv, c.WorkerSecrets}
		c.Reach = func(context.Context) (Reach, error) { return reach, nil }
	}
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
	case c.SweepInterval < 0:
		return fmt.Errorf("sweep interval: %s is below 0s", c.SweepInterval)
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
	owners  owners
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
		metrics:  newMetrics(cfg.Store, cfg.Parts),
		touches:  newTouches(),
		started:  time.Now().UTC(),
		stopping: make(chan struct{}),
	}
	m.rec = newReconciler(reconcilerConfig{
		Store: cfg.Store, Spawner: cfg.Spawner, Bell: cfg.Bell, Leader: cfg.Leader, Token: sign.spawnToken,
		Reach: cfg.Reach, ManagerURL: cfg.ManagerURL, Args: cfg.WorkerArgs,
		Concurrency: cfg.Concurrency, MaxWorkers: cfg.MaxWorkers, AutoRemove: cfg.AutoRemove, LeaseTTL: cfg.LeaseTTL,
		Interval: cfg.SweepInterval, NoSweep: cfg.NoSweep, Logger: cfg.Logger, Registerer: m.metrics.registry,
	})
	if m.handler, err = m.routes(); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return m, nil
}

// Handler serves the API, the dashboard, health and metrics.
func (m *Manager) Handler() http.Handler { return m.handler }

// WorkerHandler serves what workers call and nothing else: for an address that only they need to reach.
func (m *Manager) WorkerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(api.PrefixWorker, m.handler)
	mux.Handle("GET /healthz", m.handler)
	return mux
}

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
