package test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A Manager that is started with a wrong address or password of a server says so and ends: it does not run without it in silence.

// soon bounds how long a wrong start may take: each server has a few seconds to answer.
const soon = 30 * time.Second

func TestWrongServersAreToldAtTheStart(t *testing.T) {
	t.Parallel()
	bin := binary(t)
	postgres, redis := startPostgres(t, nil), startRedis(t)
	rabbitmq := fromEnv(t, "GMAPS_TEST_RABBITMQ")
	closed := freeAddr(t)
	w := &world{t: t, bin: bin, dir: t.TempDir()}
	maps := freeAddr(t) // for the doctor, to whom all else is well
	t.Cleanup(w.start("simulator", nil, "-simulator", "-addr", maps).kill)
	waitFor(t, "simulator", func() bool { return answers("http://" + maps + "/healthz") })
	const secret = "Hunter2Hunter2"
	wrong := func(dsn string) string { return strings.Replace(dsn, postgres.password, secret, 1) }
	broker := func(change func(*url.URL)) string {
		u, err := url.Parse(rabbitmq)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	password, _ := func() (string, bool) { u, _ := url.Parse(rabbitmq); return u.User.Password() }()

	for name, c := range map[string]struct {
		flags   []string
		env     string
		says    []string // all of them
		secrets []string // none of them
	}{
		"DSN that is none":        {flags: []string{"-dsn", "postgres//gmaps:" + secret + "@127.0.0.1/gmaps"}, says: []string{"-dsn", "postgres://user:password@host"}, secrets: []string{secret}},
		"DSN with a bad password": {flags: []string{"-dsn", "postgres://gmaps:" + secret + "/x@127.0.0.1/gmaps"}, says: []string{"-dsn"}, secrets: []string{secret}},
		"DSN, wrong password":     {flags: []string{"-dsn", wrong(postgres.dsn(""))}, says: []string{"-dsn", "password"}, secrets: []string{secret}},
		"DSN of the environment":  {env: "GMAPS_DSN=" + wrong(postgres.dsn("")), says: []string{"-dsn", "password"}, secrets: []string{secret}},
		"DSN, unknown database":   {flags: []string{"-dsn", strings.Replace(postgres.dsn(""), "/gmaps?", "/nowhere?", 1)}, says: []string{"-dsn", "nowhere", "createdb"}, secrets: []string{postgres.password}},
		"DSN, nobody there":       {flags: []string{"-dsn", postgres.dsn(closed)}, says: []string{"-dsn", closed, "start PostgreSQL"}, secrets: []string{postgres.password}},
		"DSN of a Redis":          {flags: []string{"-dsn", postgres.dsn(redis.address)}, says: []string{"-dsn", redis.address, "another service"}, secrets: []string{postgres.password}},
		"DSN of a RabbitMQ":       {flags: []string{"-dsn", postgres.dsn(hostPort(rabbitmq))}, says: []string{"-dsn", hostPort(rabbitmq), "another service"}, secrets: []string{postgres.password}},

		"RabbitMQ, no URL":         {flags: []string{"-rabbitmq-url", "localhost:" + secret}, says: []string{"-rabbitmq-url", "amqp://"}, secrets: []string{secret}},
		"RabbitMQ, refused login":  {flags: []string{"-rabbitmq-url", broker(func(u *url.URL) { u.User = url.UserPassword("gmaps", secret) })}, says: []string{"-rabbitmq-url", "refused the login"}, secrets: []string{secret}},
		"RabbitMQ, unknown vhost":  {flags: []string{"-rabbitmq-url", broker(func(u *url.URL) { u.Path = "/nowhere" })}, says: []string{"-rabbitmq-url", "nowhere", "add_vhost"}, secrets: []string{password}},
		"RabbitMQ, nobody there":   {flags: []string{"-rabbitmq-url", broker(func(u *url.URL) { u.Host = closed })}, says: []string{"-rabbitmq-url", closed}, secrets: []string{password}},
		"RabbitMQ of a Redis":      {flags: []string{"-rabbitmq-url", broker(func(u *url.URL) { u.Host = redis.address })}, says: []string{"-rabbitmq-url", redis.address}, secrets: []string{password}},
		"RabbitMQ of a PostgreSQL": {flags: []string{"-rabbitmq-url", broker(func(u *url.URL) { u.Host = postgres.address })}, says: []string{"-rabbitmq-url", postgres.address}, secrets: []string{password}},

		"Redis, no password":      {flags: []string{"-redis-addr", redis.address}, says: []string{"-redis-addr", "password"}, secrets: []string{redis.password}},
		"Redis, wrong password":   {flags: []string{"-redis-addr", redis.address, "-redis-password", secret}, says: []string{"-redis-addr", "password"}, secrets: []string{secret}},
		"Redis, wrong in a URL":   {flags: []string{"-redis-addr", "redis://:" + secret + "@" + redis.address}, says: []string{"-redis-addr", "password"}, secrets: []string{secret}},
		"Redis, nobody there":     {flags: []string{"-redis-addr", closed, "-redis-password", secret}, says: []string{"-redis-addr", closed}, secrets: []string{secret}},
		"Redis of a PostgreSQL":   {flags: []string{"-redis-addr", postgres.address, "-redis-password", secret}, says: []string{"-redis-addr", postgres.address}, secrets: []string{secret}},
		"Redis of a RabbitMQ":     {flags: []string{"-redis-addr", hostPort(rabbitmq), "-redis-password", secret}, says: []string{"-redis-addr", hostPort(rabbitmq)}, secrets: []string{secret}},
		"Redis, TLS to no TLS":    {flags: []string{"-redis-addr", redis.address, "-redis-tls", "-redis-password", secret}, says: []string{"-redis-addr", "TLS"}, secrets: []string{secret}},
		"RabbitMQ, TLS to no TLS": {flags: []string{"-rabbitmq-url", strings.Replace(rabbitmq, "amqp:", "amqps:", 1)}, says: []string{"-rabbitmq-url", "TLS"}, secrets: []string{password}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.secrets[0] == "guest" || c.secrets[0] == "" {
				c.secrets = nil // a word that may stand anywhere
			}
			for mode, flags := range map[string][]string{"manager": {"-manager", "-addr", freeAddr(t)}, "doctor": {"doctor", "-addr", freeAddr(t)}} {
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				cmd := exec.CommandContext(ctx, bin, append(append(flags, "-data-dir", t.TempDir(), "-maps-url", "http://"+maps), c.flags...)...)
				cmd.Env = append(os.Environ(), c.env)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				err := cmd.Run()
				var exit *exec.ExitError
				switch {
				case ctx.Err() != nil:
					t.Errorf("%s still runs after %s:\n%s", mode, soon, &out)
				case !errors.As(err, &exit) || exit.ExitCode() != 1:
					t.Errorf("%s ended with %v, want exit code 1:\n%s", mode, err, &out)
				}
				for _, word := range c.says {
					if !strings.Contains(out.String(), word) {
						t.Errorf("%s does not say %q:\n%s", mode, word, &out)
					}
				}
				for _, word := range c.secrets {
					if strings.Contains(out.String(), word) {
						t.Errorf("%s tells the secret %q:\n%s", mode, word, &out)
					}
				}
			}
		})
	}
}
