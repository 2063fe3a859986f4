package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/manager"
	"gmaps-scraper/spawner"
)

// routeAge is how long a way to this Manager is believed in: a network may be made anew with other addresses.
const routeAge = 30 * time.Second

// routeDeadline bounds the search for it.
const routeDeadline = 10 * time.Second

// container is what workers in containers are told: what this process calls localhost is another place there.
type container struct {
	env, secrets map[string]string
	route        func(ctx context.Context, port int) (spawner.Route, error)
	addr         *net.TCPAddr // where this Manager listens
	serve        func(net.Listener)

	busy    chan struct{} // of size 1: held while looking, and waited for no longer than a start may take
	reach   manager.Reach
	foundAt time.Time
	open    map[string]bool // addresses beside addr
}

// reached is manager.Config.Reach.
func (k *container) reached(ctx context.Context) (manager.Reach, error) {
	select {
	case k.busy <- struct{}{}:
		defer func() { <-k.busy }()
	case <-ctx.Done():
		return manager.Reach{}, context.Cause(ctx)
	}
	if time.Since(k.foundAt) < routeAge {
		return k.reach, nil
	}
	look, cancel := context.WithTimeout(ctx, routeDeadline)
	defer cancel()
	r, err := k.route(look, k.addr.Port)
	if err != nil {
		return manager.Reach{}, err
	}
	if r.Listen != "" && !k.addr.IP.IsUnspecified() && !k.addr.IP.Equal(net.ParseIP(r.Listen)) {
		if err := k.listen(ctx, net.JoinHostPort(r.Listen, strconv.Itoa(k.addr.Port))); err != nil {
			return manager.Reach{}, &spawner.Error{
				Op: "route", Reason: fmt.Sprintf("workers must reach this Manager at %s, where it cannot listen: %v", r.Listen, err),
				Mend: "choose another port with -addr, or set -spawner-manager-url", Cause: "network", Err: err,
			}
		}
	}
	k.reach = manager.Reach{ManagerURL: r.URL, Env: maps.Clone(k.env), Secrets: maps.Clone(k.secrets)}
	for _, vars := range []map[string]string{k.reach.Env, k.reach.Secrets} {
		for _, flag := range []string{"maps-url", "rabbitmq-url", "redis-addr"} {
			if v, ok := vars[envOf(flag)]; ok {
				vars[envOf(flag)] = r.Rewrite(v)
			}
		}
	}
	k.foundAt = time.Now()
	return k.reach, nil
}

// keepOpen opens the way for workers that a Manager before this one has started: it may be long until this one starts any. What stands
// in the way is told by the first start that it hinders.
func (k *container) keepOpen(ctx context.Context) error {
	again := time.NewTicker(2 * time.Second)
	defer again.Stop()
	for {
		_, _ = k.reached(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// listen opens one more address for workers to come in by, once.
func (k *container) listen(ctx context.Context, addr string) error {
	if k.open[addr] {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	k.serve(l)
	k.open[addr] = true
	return nil
}

// workerVars are what spawned workers must know of this process's flags: those of the group "How to fetch" that were given, and the
// servers that they share. What may hold a password is among the secrets.
func (c *config) workerVars() (env, secrets map[string]string, err error) {
	if c.spawner == "lambda" {
		return nil, c.functionVars(), nil
	}
	env = map[string]string{envOf("log-level"): c.logLevel, envOf("log-format"): c.logFormat}
	secrets = make(map[string]string)
	if c.spawner == "process" { // a container's files vanish with it: its log tells of such payloads
		env[envOf("quarantine-dir")] = c.quarantineDir
	}
	switch {
	case c.exitName != "":
		env[envOf("exit-name")] = c.exitName
	case c.spawner == "swarm":
		env[envOf("exit-name")] = spawner.SwarmNode
	default:
		if host, err := os.Hostname(); err == nil {
			env[envOf("exit-name")] = host
		}
	}
	for _, name := range []string{"maps-url", "rate", "in-flight", "timeout", "retries"} {
		if c.set[name] {
			env[envOf(name)] = c.fs.Lookup(name).Value.String()
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"} { // net/http's
		if v := os.Getenv(name); v != "" {
			secrets[name] = v
		}
	}
	proxies, err := c.proxyList()
	if err != nil {
		return nil, nil, err
	}
	if len(proxies) > 0 {
		secrets[envOf("proxies")] = strings.Join(proxies, ",")
	}
	if !c.spawnerShareServices {
		return env, secrets, nil
	}
	for _, name := range []string{"rabbitmq-url", "redis-addr", "redis-password"} {
		if v := c.fs.Lookup(name).Value.String(); v != "" {
			secrets[envOf(name)] = v
		}
	}
	if c.redisTLS {
		env[envOf("redis-tls")] = "true"
	}
	return env, secrets, nil
}

// functionVars are what a Lambda function is told of the servers that it shares: what a payload may hold, and no password.
func (c *config) functionVars() map[string]string {
	vars := make(map[string]string)
	if !c.spawnerShareServices {
		return vars
	}
	if at := cmp.Or(c.lambdaRabbitmqSecret, c.rabbitmqURL); at != "" && !hasPassword(at) {
		vars[envOf("rabbitmq-url")] = at
	}
	if at := c.redisAddr; at != "" {
		if u, err := url.Parse(at); err == nil && hasPassword(at) {
			u.User = url.User(u.User.Username())
			at = u.String()
		}
		if c.redisTLS && !strings.Contains(at, "://") {
			at = "rediss://" + at
		}
		vars[envOf("redis-addr")] = at
	}
	return vars
}

// untold says which passwords functions are not told, and how they may be.
func (c *config) untold() []string {
	var notes []string
	if !c.spawnerShareServices {
		return nil
	}
	if c.lambdaRabbitmqSecret == "" && hasPassword(c.rabbitmqURL) {
		notes = append(notes, "-rabbitmq-url holds a password and is left out of payloads, which workers can do without; -spawner-lambda-rabbitmq-secret names a secret instead")
	}
	if c.redisAddr != "" && (c.redisPassword != "" || hasPassword(c.redisAddr)) {
		notes = append(notes, "the password of -redis-addr is left out of payloads: set "+envOf("redis-password")+" in the function's environment, at best to the ARN of a secret")
	}
	return notes
}

func hasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return strings.Contains(address, "://") // what cannot be read may hold one
	}
	_, has := u.User.Password()
	return has
}
