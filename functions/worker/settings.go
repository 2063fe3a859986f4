package main

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/gmaps/web"
)

// settings are the function's environment variables: those of the flags of the same names.
type settings struct {
	web           web.Config
	redisPassword string
	redisTLS      bool
	log           *slog.Logger
}

// readSettings reads the environment, references resolved. Its error names the variable.
func readSettings(ctx context.Context, lookup func(string) (string, bool), s *secrets, stderr io.Writer) (settings, error) {
	out := settings{web: web.Config{Retries: 4, Timeout: 30 * time.Second}}
	var level slog.Level
	options := &slog.HandlerOptions{Level: &level}
	out.log = slog.New(slog.NewTextHandler(stderr, options))
	for _, v := range []struct {
		name string
		wish string
		read func(string) bool
	}{
		{"GMAPS_MAPS_URL", "a URL", func(v string) bool { out.web.BaseURL = v; return checkURL("", v) == nil }},
		{"GMAPS_PROXIES", "a list of proxies, separated by commas", func(v string) bool {
			out.web.Proxies = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' || r == ' ' })
			return !strings.HasPrefix(v, "@") // there is no file to read
		}},
		{"GMAPS_RATE", "a number from 0", func(v string) bool { return number(v, &out.web.RatePerSecond, 1e6) }},
		{"GMAPS_IN_FLIGHT", "a whole number from 0", func(v string) bool { return whole(v, &out.web.InFlight, 1e5) }},
		{"GMAPS_RETRIES", "a whole number from 0 to 100", func(v string) bool { return whole(v, &out.web.Retries, 100) }},
		{"GMAPS_TIMEOUT", "a duration such as 30s", func(v string) bool {
			d, err := time.ParseDuration(v)
			out.web.Timeout = d
			return err == nil && d > 0
		}},
		{"GMAPS_EXIT_NAME", "a name", func(v string) bool { out.web.DirectName = v; return true }},
		{"GMAPS_REDIS_PASSWORD", "a password", func(v string) bool { out.redisPassword = v; return true }},
		{"GMAPS_REDIS_TLS", "true or false", func(v string) (ok bool) {
			var err error
			out.redisTLS, err = strconv.ParseBool(v)
			return err == nil
		}},
		{"GMAPS_LOG_LEVEL", "debug, info, warn or error", func(v string) bool { return level.UnmarshalText([]byte(v)) == nil }},
		{"GMAPS_LOG_FORMAT", "text or json", func(v string) bool {
			if v == "json" {
				out.log = slog.New(slog.NewJSONHandler(stderr, options))
			}
			return v == "json" || v == "text"
		}},
	} {
		value, _ := lookup(v.name)
		if value == "" {
			continue
		}
		value, err := s.resolve(ctx, v.name, value)
		if err != nil {
			return settings{}, err
		}
		if !v.read(value) {
			return settings{}, failf(badSetting, "%s: is not %s", v.name, v.wish)
		}
	}
	return out, nil
}

func number(v string, into *float64, high float64) bool {
	n, err := strconv.ParseFloat(v, 64)
	*into = n
	return err == nil && !math.IsNaN(n) && n >= 0 && n <= high
}

func whole(v string, into *int, high int) bool {
	n, err := strconv.Atoi(v)
	*into = n
	return err == nil && n >= 0 && n <= high
}
