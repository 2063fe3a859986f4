package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"gmaps-scraper/export"
	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
)

// mode is what this process is to be.
type mode string

const (
	modeOneShot    mode = "one shot"
	modeManager    mode = "manager"
	modeWorker     mode = "worker"
	modeSimulator  mode = "simulator"
	modeDoctor     mode = "doctor"
	modeVersion    mode = "version"
	modeHelp       mode = "help"
	modeCompletion mode = "completion"
	modeOpenAPI    mode = "openapi"
	modeHealth     mode = "health"
)

// config is every flag. The zero value of a field is not its default: see newFlags.
type config struct {
	mode mode

	manager, worker, simulator, doctor, version, openapi bool
	health                                               bool
	completion                                           string

	input, results, format, csvColumns string
	json, resume                       bool
	concurrency                        int
	exitOnInactivity                   time.Duration

	lang, country, geo, bbox, detail, reviewOrder, engine string
	radiusMeters, cellKilometers                          float64
	zoom, depth, maxReviews, maxResults, priority         int
	maxAttempts                                           int
	strict, extraReviews                                  bool
	maxTime                                               time.Duration

	mapsURL, proxies, quarantineDir string
	exitName                        string
	ratePerSecond                   float64
	inFlight, retries               int
	timeout                         time.Duration

	addr, dataDir            string
	dsn, rabbitmqURL         string
	redisAddr, redisPassword string
	redisTLS                 bool
	apiKey                   string
	noAuth, openMetrics      bool
	leaseTTL, sweepInterval  time.Duration
	managerURL, spoolDir     string
	logLevel, logFormat      string

	spawner, spawnerImage, spawnerNetwork, spawnerManagerURL string
	spawnerConcurrency, spawnerMaxWorkers                    int
	spawnerAutoRemove, spawnerShareServices                  bool
	spawnerPull                                              string
	spawnerMemoryMiB, spawnerPIDs                            int
	spawnerCPUs                                              float64
	spawnerConstraints                                       []string
	lambdaFunction, lambdaRegion, lambdaInvocation           string
	lambdaMaxConc                                            int
	lambdaEventAge                                           time.Duration
	lambdaRabbitmqSecret                                     string
	awsEndpoint                                              string // not a flag: the SDK's own variable

	captures             string
	synthetic            int
	seed                 uint64
	latency              time.Duration
	errorRate, blockRate float64
	consent              bool

	// set holds the names of the flags that the command line or the environment gave, given those of the command line.
	set   map[string]bool
	given []string
	fs    *flag.FlagSet
}

// usageError is a mistake in the command line or environment: exit 2. Its text names the flag.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// flagGroups is the order of -help: a title and the flags under it. Every flag stands in exactly one group.
// A group with a mode has no effect in any other.
var flagGroups = []struct {
	title string
	mode  mode
	flags []string
}{
	{"What to run (none of them: one shot, from -input to -results)", "", []string{"manager", "worker", "simulator", "doctor", "health", "version", "completion"}},
	{"One shot", modeOneShot, []string{"input", "results", "format", "json", "csv-columns", "resume", "exit-on-inactivity"}},
	{"What to search", modeOneShot, []string{"lang", "country", "geo", "radius", "zoom", "grid-bbox", "grid-cell", "strict", "depth", "detail", "extra-reviews", "max-reviews", "reviews-order", "max-results", "max-time", "max-attempts", "priority", "engine"}},
	{"How to fetch (handed on to spawned workers; a Lambda function has them as its own environment variables)", "", []string{"c", "maps-url", "proxies", "rate", "in-flight", "exit-name", "timeout", "retries", "quarantine-dir"}},
	{"Manager", "", []string{"addr", "data-dir", "dsn", "api-key", "no-auth", "open-metrics", "lease-ttl", "sweep-interval"}},
	{"Servers that Manager and workers share", "", []string{"rabbitmq-url", "redis-addr", "redis-password", "redis-tls"}},
	{"Spawner", modeManager, []string{"spawner", "spawner-concurrency", "spawner-max-workers", "spawner-auto-remove", "spawner-manager-url", "spawner-share-services"}},
	{"Spawner: Docker and Swarm", modeManager, []string{"spawner-image", "spawner-network", "spawner-pull", "spawner-memory", "spawner-cpus", "spawner-pids", "spawner-constraint"}},
	{"Spawner: Lambda", modeManager, []string{"spawner-lambda-function", "spawner-lambda-region", "spawner-lambda-invocation", "spawner-lambda-max-conc", "spawner-lambda-event-age", "spawner-lambda-rabbitmq-secret"}},
	{"Worker", "", []string{"manager-url", "spool-dir"}},
	{"Simulator", modeSimulator, []string{"captures", "synthetic", "seed", "latency", "error-rate", "block-rate", "consent"}},
	{"Logging", "", []string{"log-level", "log-format"}},
}

// envOf is the environment variable of a flag: flag > GMAPS_* > default.
func envOf(name string) string {
	if name == "c" {
		return "GMAPS_CONCURRENCY"
	}
	return "GMAPS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func newFlags(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("gmaps-scraper", flag.ContinueOnError)
	fs.SetOutput(io.Discard)

	fs.BoolVar(&c.manager, "manager", false, "run the Manager: API, dashboard, reconciler")
	fs.BoolVar(&c.worker, "worker", false, "run a worker for the Manager at -manager-url")
	fs.BoolVar(&c.simulator, "simulator", false, "run a Google Maps stand-in on -addr, for demos and tests")
	fs.BoolVar(&c.doctor, "doctor", false, "check everything the other flags name and print the mend of each failure")
	fs.BoolVar(&c.health, "health", false, "exit 0 if the Manager at -manager-url answers, for the health check of its container")
	fs.BoolVar(&c.version, "version", false, "print the version")
	fs.StringVar(&c.completion, "completion", "", "print completion for `shell`: bash, zsh or fish")
	fs.BoolVar(&c.openapi, "openapi", false, "print the API's OpenAPI 3.1 description")

	fs.StringVar(&c.input, "input", "", "`file` of queries or Google Maps URLs, one a line ('query #!#id' carries an id); - is stdin")
	fs.StringVar(&c.results, "results", "-", "`file` for the rows; - is stdout")
	fs.StringVar(&c.format, "format", "", "`format` of the rows: "+strings.Join(export.Formats(), ", ")+"; default: by the file's name, else csv")
	fs.BoolVar(&c.json, "json", false, "short for -format json")
	fs.StringVar(&c.csvColumns, "csv-columns", "", "`columns`, comma-separated; 'compat' gives the order of google-maps-scraper; default: all")
	fs.IntVar(&c.concurrency, "c", 4, "tasks at a `time`: of the one shot, or of a worker")
	fs.BoolVar(&c.resume, "resume", false, "go on where an interrupted run for the same -results stopped")
	durationVar(fs, &c.exitOnInactivity, "exit-on-inactivity", 0, "stop when nothing new came for this `long`; 0: never")

	fs.StringVar(&c.lang, "lang", "en", "`language` of the answers, such as en or pt-BR")
	fs.StringVar(&c.country, "country", "", "two-letter `country` for Google (gl)")
	fs.StringVar(&c.geo, "geo", "", "`lat,lng` to search around")
	fs.Float64Var(&c.radiusMeters, "radius", 0, "`metres` around -geo; 0: what -zoom shows")
	fs.IntVar(&c.zoom, "zoom", 0, "map zoom 1 to 21 around -geo, or the cell size of -grid-bbox; default 14")
	fs.StringVar(&c.bbox, "grid-bbox", "", "`minLat,minLng,maxLat,maxLng` to cut into a grid")
	fs.Float64Var(&c.cellKilometers, "grid-cell", 0, "edge of a grid cell in `km`; 0: what -zoom shows")
	fs.BoolVar(&c.strict, "strict", false, "drop places outside the area")
	fs.IntVar(&c.depth, "depth", 0, "result `pages` of 20 places a search; 0: until two pages bring nothing new")
	fs.StringVar(&c.detail, "detail", "auto", "fetch each place's own page: auto (when its listing lacks fields), always, never")
	fs.BoolVar(&c.extraReviews, "extra-reviews", false, "fetch reviews beyond the first eight")
	fs.IntVar(&c.maxReviews, "max-reviews", 0, "reviews a place with -extra-reviews; 0: all")
	fs.StringVar(&c.reviewOrder, "reviews-order", "relevant", "`order` of reviews: relevant, newest, highest, lowest")
	fs.IntVar(&c.maxResults, "max-results", 0, "stop after so many places; 0: all")
	durationVar(fs, &c.maxTime, "max-time", 0, "stop after this `long` with what there is; 0: never")
	fs.IntVar(&c.maxAttempts, "max-attempts", 3, "`tries` of one search before it counts as failed")
	fs.IntVar(&c.priority, "priority", 0, "0 (last) to 10 (first)")
	fs.StringVar(&c.engine, "engine", "http", "how to fetch: http")

	fs.StringVar(&c.mapsURL, "maps-url", "https://www.google.com", "`URL` of Google Maps, or of a simulator")
	fs.StringVar(&c.proxies, "proxies", "", "comma-separated proxy `URLs` (http, https, socks5, socks5h; user:password@ allowed), or @file with one a line")
	fs.Float64Var(&c.ratePerSecond, "rate", 0, "requests a second through one exit; 0: a polite default, unlimited on loopback")
	fs.StringVar(&c.exitName, "exit-name", "", "`name` of the address that requests without a proxy leave by: through Redis, workers of one name share -rate; default: this worker's alone, and for spawned ones their machine's")
	fs.IntVar(&c.inFlight, "in-flight", 0, "requests at once through one exit; 0: a polite default")
	durationVar(fs, &c.timeout, "timeout", 30*time.Second, "`limit` of one request")
	fs.IntVar(&c.retries, "retries", 4, "`tries` of one request elsewhere after a block or an error")
	fs.StringVar(&c.quarantineDir, "quarantine-dir", "", "`folder` that keeps payloads nobody could decode; default: quarantine in the data folder")

	fs.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`host:port` to listen on")
	fs.StringVar(&c.dataDir, "data-dir", "", "`folder` of the embedded database, logs of workers, quarantine; default: "+defaultDataDirText())
	fs.StringVar(&c.dsn, "dsn", "", "PostgreSQL `DSN`; default: an embedded database in -data-dir")
	fs.StringVar(&c.rabbitmqURL, "rabbitmq-url", "", "`amqp[s]://…` that wakes workers; default: they ask the Manager")
	fs.StringVar(&c.redisAddr, "redis-addr", "", "Redis `host:port`, or a redis[s]:// URL: places seen and rates shared by workers; default: each for itself")
	fs.StringVar(&c.redisPassword, "redis-password", "", "`password` for Redis (better in "+envOf("redis-password")+")")
	fs.BoolVar(&c.redisTLS, "redis-tls", false, "speak TLS to Redis")
	fs.StringVar(&c.apiKey, "api-key", "", "`key` that the API asks for; default: one is made at the first start and printed once (better in "+envOf("api-key")+")")
	fs.BoolVar(&c.noAuth, "no-auth", false, "let anybody who reaches -addr in, without a key")
	fs.BoolVar(&c.openMetrics, "open-metrics", false, "serve /metrics without a key")
	durationVar(fs, &c.leaseTTL, "lease-ttl", 30*time.Second, "how `long` a worker may be silent before its tasks go to another")
	durationVar(fs, &c.sweepInterval, "sweep-interval", 2*time.Second, "how `often` the Manager looks for work and dead workers that nobody told it of; 0: never, and jobs are lost (for tests that show that)")
	fs.StringVar(&c.managerURL, "manager-url", "http://127.0.0.1:8080", "`URL` of the Manager that a worker serves")
	fs.StringVar(&c.spoolDir, "spool-dir", "", "`folder` where a worker keeps results while the Manager is away; default: a temporary one")
	fs.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&c.logFormat, "log-format", "text", "text or json")

	fs.StringVar(&c.spawner, "spawner", "none", "`type`: none, process, docker, swarm, lambda")
	fs.StringVar(&c.spawnerImage, "spawner-image", "gmaps-scraper:latest", "Docker `image` for workers")
	fs.StringVar(&c.spawnerNetwork, "spawner-network", "gmaps-network", "Docker `network` to attach workers")
	fs.IntVar(&c.spawnerConcurrency, "spawner-concurrency", 4, "tasks at a time `per` spawned worker")
	fs.IntVar(&c.spawnerMaxWorkers, "spawner-max-workers", 0, "max concurrent `workers`; 0: unlimited, under the backend's own ceiling")
	fs.BoolVar(&c.spawnerAutoRemove, "spawner-auto-remove", true, "remove a worker's remains after its exit code and log are stored")
	fs.StringVar(&c.spawnerManagerURL, "spawner-manager-url", "", "`URL` under which workers reach the Manager; default: found out")
	fs.BoolVar(&c.spawnerShareServices, "spawner-share-services", true, "tell spawned workers of RabbitMQ and Redis; they can do without")
	fs.StringVar(&c.spawnerPull, "spawner-pull", "missing", "when to pull the image: missing, always, never")
	fs.IntVar(&c.spawnerMemoryMiB, "spawner-memory", spawner.DefaultMemoryMiB, "memory of a worker in `MiB`; 0: no limit")
	fs.Float64Var(&c.spawnerCPUs, "spawner-cpus", 0, "`CPUs` of a worker, such as 0.5; 0: no limit")
	fs.IntVar(&c.spawnerPIDs, "spawner-pids", spawner.DefaultPIDs, "`processes` of a worker; 0: no limit")
	fs.Var((*list)(&c.spawnerConstraints), "spawner-constraint", "Swarm placement `constraint` such as node.labels.zone==a; may be given more than once")
	fs.StringVar(&c.lambdaFunction, "spawner-lambda-function", "", "Lambda function `name` or ARN")
	fs.StringVar(&c.lambdaRegion, "spawner-lambda-region", "", "AWS `region`")
	fs.StringVar(&c.lambdaInvocation, "spawner-lambda-invocation", "Event", "invocation `type`: Event (async) or RequestResponse (sync)")
	fs.IntVar(&c.lambdaMaxConc, "spawner-lambda-max-conc", spawner.DefaultLambdaMaxConc, "max concurrent Lambda `invocations`")
	durationVar(fs, &c.lambdaEventAge, "spawner-lambda-event-age", spawner.DefaultEventAge, "the function's maximum event `age`: how long an invocation of type Event may wait for its start")
	fs.StringVar(&c.lambdaRabbitmqSecret, "spawner-lambda-rabbitmq-secret", "", "`arn:aws:secretsmanager:…` that functions are told instead of a -rabbitmq-url with a password")

	fs.StringVar(&c.captures, "captures", "", "`folder` of captured payloads to answer from")
	fs.IntVar(&c.synthetic, "synthetic", 10_000, "`number` of made-up places")
	fs.Uint64Var(&c.seed, "seed", 1, "`seed` of the made-up places and faults")
	durationVar(fs, &c.latency, "latency", 0, "`delay` of every answer")
	fs.Float64Var(&c.errorRate, "error-rate", 0, "`share` of answers that fail, 0 to 1")
	fs.Float64Var(&c.blockRate, "block-rate", 0, "`share` of answers that refuse, 0 to 1")
	fs.BoolVar(&c.consent, "consent", false, "ask for consent first, as in Europe")
	return fs
}

// duration is a flag whose error says how a duration is written.
type duration time.Duration

func durationVar(fs *flag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	fs.Var((*duration)(p), name, usage)
}

func (d *duration) String() string { return time.Duration(*d).String() }

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("is no duration such as 90s, 20m or 1h30m")
	}
	*d = duration(v)
	return nil
}

// list is a flag that may be given more than once, or once with commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			return errors.New("has an empty part")
		}
		*l = append(*l, part)
	}
	return nil
}

// parseFlags reads the command line and then the environment for what it left out. Its error is a *usageError.
func parseFlags(args []string, getenv func(string) string) (*config, error) {
	c := &config{set: map[string]bool{}}
	c.fs = newFlags(c)
	if len(args) > 0 {
		switch args[0] { // "gmaps-scraper doctor" reads better than a flag
		case "doctor", "version", "help":
			args = append([]string{"-" + args[0]}, args[1:]...)
		}
	}
	if err := c.checkNames(args); err != nil {
		return nil, err
	}
	if err := c.fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		c.mode = modeHelp
		return c, nil
	} else if err != nil {
		return nil, usagef("%v", err)
	}
	if c.fs.NArg() > 0 && c.fs.Lookup(c.fs.Arg(0)) != nil {
		return nil, usagef("unexpected argument %q: did you mean -%s?", c.fs.Arg(0), c.fs.Arg(0))
	}
	if c.fs.NArg() > 0 {
		return nil, usagef("unexpected argument %q: every option begins with a dash, see -help", c.fs.Arg(0))
	}
	c.fs.Visit(func(f *flag.Flag) { c.set[f.Name], c.given = true, append(c.given, f.Name) })
	var bad error
	c.fs.VisitAll(func(f *flag.Flag) {
		v := getenv(envOf(f.Name))
		if c.set[f.Name] || v == "" || bad != nil {
			return
		}
		if err := c.fs.Set(f.Name, v); err != nil {
			bad = usagef("invalid value in %s: %v", envOf(f.Name), err)
			return
		}
		c.set[f.Name] = true
	})
	if bad != nil {
		return nil, bad
	}
	if c.awsEndpoint = cmp.Or(getenv("AWS_ENDPOINT_URL_LAMBDA"), getenv("AWS_ENDPOINT_URL")); strings.EqualFold(getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), "true") {
		c.awsEndpoint = ""
	}
	return c, c.validate()
}

// checkNames finds the first unknown flag before the flag package does, to name the nearest known one.
func (c *config) checkNames(args []string) error {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" || len(a) < 2 || a[0] != '-' {
			return nil
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if name == "help" || name == "h" {
			return nil
		}
		f := c.fs.Lookup(name)
		if f == nil {
			var known []string
			c.fs.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
			if near := export.Nearest(name, known); near != "" {
				return usagef("unknown flag -%s: did you mean -%s?", name, near)
			}
			return usagef("unknown flag -%s: see -help", name)
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); !hasValue && (!ok || !b.IsBoolFlag()) {
			if i+1 == len(args) {
				return usagef("-%s needs a value", name)
			}
			i++
		}
	}
	return nil
}

func (c *config) validate() error {
	var modes []string
	for _, m := range []struct {
		on   bool
		mode mode
	}{{c.manager, modeManager}, {c.worker, modeWorker}, {c.simulator, modeSimulator}, {c.version, modeVersion}, {c.completion != "", modeCompletion}, {c.openapi, modeOpenAPI}, {c.health, modeHealth}} {
		if m.on {
			c.mode = m.mode
			modes = append(modes, "-"+string(m.mode))
		}
	}
	if len(modes) > 1 {
		return usagef("%s exclude each other", strings.Join(modes, " and "))
	}
	if c.doctor {
		c.mode = modeDoctor
	}
	if c.mode == "" {
		c.mode = modeOneShot
		if !c.set["input"] {
			return usagef("nothing to do: give -input FILE (one shot), -manager, -worker or -simulator; see -help")
		}
	}
	if err := c.checkMode(); err != nil {
		return err
	}
	if c.mode == modeHealth { // its environment is that of the container: half of what the Manager is told, the rest is on the Manager's command line
		return nil
	}
	for _, n := range []struct {
		name       string
		value      float64
		low, above float64
	}{
		{"c", float64(c.concurrency), 1, 1024},
		{"spawner-concurrency", float64(c.spawnerConcurrency), 1, 1024},
		{"spawner-max-workers", float64(c.spawnerMaxWorkers), 0, 1e6},
		{"spawner-memory", float64(c.spawnerMemoryMiB), 0, 1 << 24},
		{"spawner-cpus", c.spawnerCPUs, 0, 4096},
		{"spawner-pids", float64(c.spawnerPIDs), 0, 1 << 22},
		{"spawner-lambda-max-conc", float64(c.lambdaMaxConc), 1, 1e6},
		{"error-rate", c.errorRate, 0, 1},
		{"block-rate", c.blockRate, 0, 1},
		{"synthetic", float64(c.synthetic), 0, 1e8},
		{"spawner-lambda-event-age", c.lambdaEventAge.Seconds(), 60, 6 * 3600},
		{"latency", float64(c.latency), 0, float64(time.Hour)},
		{"rate", c.ratePerSecond, 0, 1e6},
		{"in-flight", float64(c.inFlight), 0, 1e5},
		{"retries", float64(c.retries), 0, 100},
		{"grid-cell", c.cellKilometers, 0, job.MaxRadiusMeters / 1000},
		{"exit-on-inactivity", float64(c.exitOnInactivity), 0, float64(365 * 24 * time.Hour)},
	} {
		if !(n.value >= n.low) {
			return usagef("-%s: %s is below %g", n.name, c.fs.Lookup(n.name).Value, n.low)
		}
		if n.value > n.above {
			return usagef("-%s: %s is above %g", n.name, c.fs.Lookup(n.name).Value, n.above)
		}
	}
	switch {
	case c.timeout <= 0:
		return usagef("-timeout: %s is not above 0", c.timeout)
	case c.leaseTTL < time.Second:
		return usagef("-lease-ttl: %s is below 1s", c.leaseTTL)
	case c.sweepInterval != 0 && c.sweepInterval < 100*time.Millisecond:
		return usagef("-sweep-interval: %s is below 100ms", c.sweepInterval)
	case !slices.Contains([]string{"missing", "always", "never"}, c.spawnerPull):
		return usagef("-spawner-pull: %q is none of missing, always, never", c.spawnerPull)
	case c.spawnerMemoryMiB > 0 && c.spawnerMemoryMiB < 6:
		return usagef("-spawner-memory: %d MiB is below 6, the least that Docker takes", c.spawnerMemoryMiB)
	case len(c.spawnerConstraints) > 0 && c.spawner != "swarm" && c.mode == modeManager:
		return usagef("-spawner-constraint: belongs to -spawner swarm")
	case c.redisAddr == "" && (c.redisPassword != "" || c.redisTLS) && (c.set["redis-password"] || c.set["redis-tls"]):
		return usagef("-redis-password and -redis-tls need -redis-addr")
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, c.logLevel):
		return usagef("-log-level: %q is none of debug, info, warn, error", c.logLevel)
	case !slices.Contains([]string{"text", "json"}, c.logFormat):
		return usagef("-log-format: %q is neither text nor json", c.logFormat)
	case c.mode == modeCompletion && !slices.Contains([]string{"bash", "zsh", "fish"}, c.completion):
		return usagef("-completion: %q is none of bash, zsh, fish", c.completion)
	case !slices.Contains([]string{"Event", "RequestResponse"}, c.lambdaInvocation):
		return usagef("-spawner-lambda-invocation: %q is neither Event nor RequestResponse", c.lambdaInvocation)
	case c.json && c.format != "" && c.format != "json":
		return usagef("-json and -format %s exclude each other", c.format)
	case c.format != "" && !slices.Contains(export.Formats(), c.format):
		return usagef("-format: %q is none of %s", c.format, strings.Join(export.Formats(), ", "))
	case c.set["max-reviews"] && !c.extraReviews:
		return usagef("-max-reviews: needs -extra-reviews")
	case c.noAuth && c.apiKey != "":
		return usagef("-no-auth and -api-key exclude each other")
	}
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return usagef("-addr: %q is no host:port", c.addr)
	}
	if err := c.checkBackends(); err != nil {
		return err
	}
	if c.mode != modeOneShot {
		return nil
	}
	spec := c.spec([]job.Input{{Text: "check"}})
	if _, err := c.area(); err != nil {
		return err
	}
	if err := spec.Validate(); err != nil {
		return specUsage(err)
	}
	return nil
}

// checkMode refuses flags of the command line that would do nothing in this mode. The environment may serve several modes.
func (c *config) checkMode() error {
	if c.mode == modeDoctor {
		return nil
	}
	for _, g := range flagGroups {
		if g.mode == "" || g.mode == c.mode {
			continue
		}
		for _, name := range g.flags {
			if slices.Contains(c.given, name) {
				return usagef("-%s does nothing here: it belongs to the %s, and this is the %s", name, g.mode, c.mode)
			}
		}
	}
	return nil
}

// checkBackends refuses what this build cannot do, instead of doing something else.
func (c *config) checkBackends() error {
	switch c.spawner {
	case "none", "process", "docker", "swarm":
	case "lambda":
		return c.checkLambda()
	default:
		return usagef("-spawner: %q is none of none, process, docker, swarm, lambda", c.spawner)
	}
	if c.spawner == "process" || c.spawner == "none" || c.mode != modeManager {
		return nil
	}
	switch {
	case c.spawnerImage == "":
		return usagef("-spawner-image: is empty")
	case c.spawnerNetwork == "":
		return usagef("-spawner-network: is empty")
	}
	return nil
}

// checkLambda refuses what could never work: a payload is all that a function is told.
func (c *config) checkLambda() error {
	if c.mode != modeManager && c.mode != modeDoctor {
		return nil
	}
	local := hasLoopbackHost(c.awsEndpoint)
	switch {
	case c.lambdaFunction == "":
		return usagef("-spawner-lambda-function: is missing: name the function that runs workers (make lambda builds it; docs/lambda.md)")
	case c.lambdaRabbitmqSecret != "" && !secretReference.MatchString(c.lambdaRabbitmqSecret):
		return usagef("-spawner-lambda-rabbitmq-secret: is no reference of the form arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON-KEY[:STAGE[:VERSION]]]")
	case c.mode != modeManager: // the doctor fetches nothing, and says what it finds
		return nil
	case c.spawnerManagerURL == "" && !local:
		return usagef("-spawner-manager-url: is missing: functions run in AWS and must be told a URL that reaches this Manager from there, such as https://gmaps.example.com")
	case hasLoopbackHost(c.spawnerManagerURL) && !local:
		return usagef("-spawner-manager-url: %s is, to a function in AWS, the function itself: name a URL that reaches this Manager from there", c.spawnerManagerURL)
	}
	for _, name := range []string{"maps-url", "proxies", "rate", "in-flight", "exit-name", "timeout", "retries"} {
		if c.set[name] {
			return usagef("-%s does not reach workers of -spawner lambda: set %s in the function's own environment instead, and take it from the Manager", name, envOf(name))
		}
	}
	return nil
}

// secretReference is how a value names a secret of AWS Secrets Manager, as in ECS task definitions.
var secretReference = regexp.MustCompile(`^arn:aws(-cn|-us-gov)?:secretsmanager:[^:]+:[^:]+:secret:[^:]+(:[^:]*){0,3}$`)

// hasLoopbackHost says whether a URL leads to the machine that opens it.
func hasLoopbackHost(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

// proxyList reads -proxies: URLs, or @file with one a line.
func (c *config) proxyList() ([]string, error) {
	text := c.proxies
	if name, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, usagef("-proxies: %v", err)
		}
		text = string(b)
	}
	var list []string
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list, nil
}

func defaultDataDirText() string {
	if runtime.GOOS == "linux" {
		return "~/.local/share/gmaps-scraper"
	}
	return "gmaps-scraper in the user's configuration folder"
}

// dataPath is -data-dir, or its default. The folder is made.
func (c *config) dataPath() (string, error) {
	dir := c.dataDir
	if dir == "" {
		base := os.Getenv("XDG_DATA_HOME")
		if home, err := os.UserHomeDir(); base == "" && err == nil && runtime.GOOS == "linux" {
			base = filepath.Join(home, ".local", "share")
		}
		if base == "" {
			var err error
			if base, err = os.UserConfigDir(); err != nil {
				return "", usagef("-data-dir: no home folder is known (%v): name a folder", err)
			}
		}
		dir = filepath.Join(base, "gmaps-scraper")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make data folder: %w; name another with -data-dir", err)
	}
	return filepath.Abs(dir)
}
