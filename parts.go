package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"gmaps-scraper/cache"
	"gmaps-scraper/manager"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/wakeup"
)

// parts are the servers and the backend that a Manager's flags name, open.
type parts struct {
	store   store.Store
	bell    wakeup.Bell
	leader  manager.Leader // nil: the store is this Manager's alone
	health  []manager.Part
	spawner spawner.Spawner // nil: none
	// route finds the way from a worker to a port of this process. nil: workers run on this machine.
	route func(ctx context.Context, port int) (spawner.Route, error)

	closers
}

// closers close what was opened, the last first.
type closers []func() error

func (c *closers) onClose(f func() error) { *c = append(*c, f) }

// Close may be called again.
func (c *closers) Close() error {
	var err error
	for _, f := range slices.Backward(*c) {
		err = errors.Join(err, f())
	}
	*c = nil
	return err
}

func noError(f func()) func() error { return func() error { f(); return nil } }

// openParts opens what the flags name. An error says which flag, what is wrong and what mends it.
func (c *config) openParts(ctx context.Context, dir string, log *slog.Logger) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	bells, err := c.openStore(ctx, p, dir, log)
	if err != nil {
		return nil, err
	}
	if c.rabbitmqURL != "" {
		b, err := wakeup.DialAMQP(ctx, c.rabbitmqURL, wakeup.AMQPConfig{Logger: log})
		if err != nil {
			return nil, fmt.Errorf("-rabbitmq-url: %w", err)
		}
		p.onClose(noError(b.Close))
		p.health = append(p.health, manager.Part{Name: "rabbitmq", Health: b.Health})
		bells = append(bells, b)
	}
	if c.redisAddr != "" {
		r, err := cache.OpenRedis(ctx, c.redis(log))
		if err != nil {
			return nil, fmt.Errorf("-redis-addr: %w", err)
		}
		p.onClose(noError(r.Close))
		p.health = append(p.health, manager.Part{Name: "redis", Health: r.Health})
		b := r.Bell(context.WithoutCancel(ctx))
		p.onClose(noError(b.Close))
		bells = append(bells, b)
	}
	joint := wakeup.Join(bells...)
	p.onClose(noError(joint.Close))
	p.bell = joint
	return p, c.openSpawner(ctx, p, dir, log)
}

// openStore opens the database, and returns the bells that ring between the Managers that share it.
func (c *config) openStore(ctx context.Context, p *parts, dir string, log *slog.Logger) ([]wakeup.Bell, error) {
	if c.dsn == "" {
		st, err := sqlite.Open(ctx, filepath.Join(dir, "gmaps.db"), sqlite.Config{})
		if err != nil {
			return nil, err
		}
		p.store = st
		p.onClose(st.Close)
		return nil, nil
	}
	st, err := postgres.Open(ctx, c.dsn, postgres.Config{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("-dsn: %w", err)
	}
	p.onClose(st.Close)
	p.store, p.leader = st, st
	return []wakeup.Bell{st.Bell(context.WithoutCancel(ctx))}, nil
}

// openSpawner makes the backend of -spawner for this installation. It need not answer yet.
func (c *config) openSpawner(ctx context.Context, p *parts, dir string, log *slog.Logger) error {
	if c.spawner == "none" {
		return nil
	}
	instance, err := p.store.Setting(ctx, "instance_id", uuid.NewString())
	if err != nil {
		return fmt.Errorf("read instance id: %w", err)
	}
	return c.openBackend(ctx, p, instance, dir, log)
}

func (c *config) openBackend(ctx context.Context, p *parts, instance, dir string, log *slog.Logger) (err error) {
	switch c.spawner {
	case "docker":
		d, err := spawner.NewDocker(c.docker(instance, log))
		if err != nil {
			return usagef("-%v", err)
		}
		p.spawner, p.route = d, d.Route
		p.onClose(d.Close)
	case "swarm":
		s, err := spawner.NewSwarm(c.swarm(instance, log))
		if err != nil {
			return usagef("-%v", err)
		}
		p.spawner, p.route = s, s.Route
		p.onClose(s.Close)
	case "lambda":
		l, err := spawner.NewLambda(ctx, spawner.LambdaConfig{
			Function: c.lambdaFunction, Region: c.lambdaRegion, Invocation: spawner.Invocation(c.lambdaInvocation), MaxConc: c.lambdaMaxConc,
			EventAge: c.lambdaEventAge, Logger: log,
		})
		if err != nil {
			return usagef("-%v", err)
		}
		p.spawner = l
		p.onClose(l.Close)
	default:
		p.spawner, err = spawner.NewProcess(spawner.ProcessConfig{Dir: filepath.Join(dir, "workers"), Instance: instance, Logger: log})
	}
	return err
}

func (c *config) docker(instance string, log *slog.Logger) spawner.DockerConfig {
	return spawner.DockerConfig{
		Image: c.spawnerImage, Network: c.spawnerNetwork, Instance: instance, PullPolicy: spawner.PullPolicy(c.spawnerPull),
		MemoryMiB: c.spawnerMemoryMiB, CPUs: c.spawnerCPUs, PIDs: c.spawnerPIDs, Logger: log,
	}
}

func (c *config) swarm(instance string, log *slog.Logger) spawner.SwarmConfig {
	return spawner.SwarmConfig{DockerConfig: c.docker(instance, log), Constraints: c.spawnerConstraints}
}

func (c *config) redis(log *slog.Logger) cache.RedisConfig {
	return cache.RedisConfig{Addr: c.redisAddr, Password: c.redisPassword, TLS: c.redisTLS, Logger: log}
}
