package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gmaps-scraper/cache"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store/postgres"
	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/wakeup"
)

// checkTimeout bounds each check of the doctor.
const checkTimeout = 15 * time.Second

// check is one thing that the doctor looks at. run returns what it found, or an error whose text ends with the mend.
type check struct {
	name string
	run  func(context.Context) (string, error)
}

// doctor checks what the flags name, prints a line for each, and returns errIncomplete if one failed.
func (p program) doctor(ctx context.Context, c *config) error {
	failed := 0
	for _, k := range p.checks(c) {
		one, cancel := context.WithTimeout(ctx, checkTimeout)
		found, err := k.run(one)
		cancel()
		if err != nil {
			failed++
			fmt.Fprintf(p.stdout, "FAIL  %-12s %v\n", k.name, err)
			continue
		}
		fmt.Fprintf(p.stdout, "ok    %-12s %s\n", k.name, found)
	}
	if failed > 0 {
		fmt.Fprintf(p.stdout, "\n%d to mend\n", failed)
		return errIncomplete
	}
	return nil
}

func (p program) checks(c *config) []check {
	checks := []check{
		{"data folder", func(context.Context) (string, error) { return checkDataDir(c) }},
		{"database", func(ctx context.Context) (string, error) { return checkDatabase(ctx, c) }},
		{"address", func(ctx context.Context) (string, error) {
			l, err := listen(ctx, c.addr)
			if err != nil {
				return "", err
			}
			defer l.Close()
			return c.addr + " is free", nil
		}},
		{"google maps", func(ctx context.Context) (string, error) { return checkMaps(ctx, c) }},
		{"spawner", func(ctx context.Context) (string, error) { return checkSpawner(ctx, c) }},
	}
	if c.rabbitmqURL != "" {
		checks = append(checks, check{"rabbitmq", func(ctx context.Context) (string, error) {
			b, err := wakeup.DialAMQP(ctx, c.rabbitmqURL, wakeup.AMQPConfig{})
			if err != nil {
				return "", fmt.Errorf("-rabbitmq-url: %w", err)
			}
			defer b.Close()
			return "answers, and has the queue that wakes workers", nil
		}})
	}
	if c.redisAddr != "" {
		checks = append(checks, check{"redis", func(ctx context.Context) (string, error) {
			r, err := cache.OpenRedis(ctx, c.redis(nil))
			if err != nil {
				return "", fmt.Errorf("-redis-addr: %w", err)
			}
			defer r.Close()
			return "answers", nil
		}})
	}
	if c.proxies != "" {
		checks = append(checks, check{"proxies", func(context.Context) (string, error) {
			list, err := c.proxyList()
			if err != nil {
				return "", err
			}
			if _, err := c.newEngine(nil, p.logger(c)); err != nil {
				return "", err
			}
			return fmt.Sprintf("%d of them, well formed", len(list)), nil
		}})
	}
	if c.set["manager-url"] {
		checks = append(checks, check{"manager", func(ctx context.Context) (string, error) { return checkManager(ctx, c) }})
	}
	return checks
}

func checkDataDir(c *config) (string, error) {
	dir, err := c.dataPath()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return "", fmt.Errorf("%w; make it writable or name another with -data-dir", err)
	}
	return dir + " is writable", errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkDatabase asks the database of -dsn. Of the embedded one it opens another: the Manager's may be in use, which is fine.
func checkDatabase(ctx context.Context, c *config) (string, error) {
	if c.dsn != "" {
		found, err := postgres.Probe(ctx, c.dsn)
		if err != nil {
			return "", fmt.Errorf("-dsn: %w", err)
		}
		return found, nil
	}
	dir, err := c.dataPath()
	if err != nil {
		return "", err
	}
	probe, err := os.MkdirTemp(dir, "doctor-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(probe)
	st, err := sqlite.Open(ctx, filepath.Join(probe, "probe.db"), sqlite.Config{})
	if err != nil {
		return "", fmt.Errorf("%w; is the file system of -data-dir a local one with locks?", err)
	}
	return "embedded database opens, migrates and syncs in " + dir, st.Close()
}

func checkMaps(ctx context.Context, c *config) (string, error) {
	u, err := url.Parse(c.mapsURL)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("-maps-url %q is no URL", c.mapsURL)
	}
	answer, err := get(ctx, u.JoinPath("maps").String()+"?hl=en")
	if err != nil {
		return "", fmt.Errorf("%w; is the network up, does -maps-url need -proxies?", err)
	}
	if answer >= 400 {
		return "", fmt.Errorf("%s answered %d: this address may be blocked, try -proxies", u.Host, answer)
	}
	return u.Host + " answers", nil
}

// health returns an error unless the Manager at -manager-url answers. An image without a shell has nothing else to ask with. It asks whether
// the process lives, not whether its database does: to restart the one does not mend the other.
func health(ctx context.Context, c *config) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := checkManager(ctx, c)
	return err
}

func checkManager(ctx context.Context, c *config) (string, error) {
	answer, err := get(ctx, c.managerURL+"/healthz")
	if err != nil {
		return "", fmt.Errorf("%w; is the Manager running, is -manager-url right from here?", err)
	}
	if answer != http.StatusOK {
		return "", fmt.Errorf("%s/healthz answered %d: is that a Manager?", c.managerURL, answer)
	}
	return c.managerURL + " answers", nil
}

// get returns the status of a GET. The URL is left out of its error: it may hold a password.
func get(ctx context.Context, target string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return 0, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, nil
}

func checkSpawner(ctx context.Context, c *config) (string, error) {
	if c.spawner == "none" {
		return "none: start workers with gmaps-scraper -worker -manager-url http://" + c.addr + " -api-key KEY", nil
	}
	dir, err := c.dataPath()
	if err != nil {
		return "", err
	}
	p := &parts{}
	defer p.Close()
	if err := c.openBackend(ctx, p, "doctor", dir, nil); err != nil {
		return "", err
	}
	var facts []string
	if d, ok := p.spawner.(spawner.Describer); ok {
		facts, err = d.Describe(ctx)
	} else {
		err = p.spawner.Check(ctx)
	}
	if err != nil {
		return "", err
	}
	way := ""
	switch {
	case c.spawnerManagerURL != "":
		way = ", which call the Manager at " + c.spawnerManagerURL
	case c.spawner == "lambda" && !hasLoopbackHost(c.awsEndpoint):
		return "", errors.New("functions must be told how to reach this Manager: set -spawner-manager-url to a URL that does so from AWS")
	case p.route != nil:
		_, port, err := net.SplitHostPort(c.addr)
		if err != nil {
			return "", err
		}
		n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			return "", err
		}
		r, err := p.route(ctx, n)
		if err != nil {
			return "", err
		}
		way = ", which call the Manager at " + r.URL
	}
	limit := c.spawnerMaxWorkers
	if l := p.spawner.Limits(); limit == 0 || l.Flag != "" && l.MaxWorkers < limit {
		limit = l.MaxWorkers
	}
	return strings.Join(append([]string{fmt.Sprintf("%s: at most %d workers at a time%s", c.spawner, limit, way)}, facts...), "\n                   "), nil
}
