package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Stage says what may be lost. dev keeps nothing when it is destroyed; prod keeps everything.
type Stage string

const (
	Dev  Stage = "dev"
	Prod Stage = "prod"
)

// Part says which stacks there are.
type Part string

const (
	// All is a system that needs nothing outside the account.
	All Part = "all"
	// WorkerOnly is the function alone, outside any VPC, for a Manager that runs elsewhere.
	WorkerOnly Part = "worker"
)

// WorkerNetwork is where the function runs.
type WorkerNetwork string

const (
	// InVPC puts the function into the VPC's private subnets: it reaches Manager, cache and broker without the internet, and Google Maps
	// through NAT gateways, which cost by the hour and by the GB.
	InVPC WorkerNetwork = "vpc"
	// Public leaves it outside: no NAT, and a new address for many of its environments. It reaches the Manager's public HTTPS address with
	// its spawn's token, and neither cache nor broker.
	Public WorkerNetwork = "public"
)

// Config is every choice, in the CDK's context. Its zero value is not its default: see newOptions.
type Config struct {
	Stage  Stage
	Region string
	Only   string

	Image, Certificate, Domain, HostedZone string
	Allow                                  string // CIDRs
	ManagerURL                             string // with Only = worker

	VPCCIDR            string
	NATGateways        int
	InterfaceEndpoints bool

	Database           string // instance class
	DatabaseVersion    string
	DatabaseCA         string // path in the Manager's image
	DatabaseStorageGiB int
	BackupDays         int
	MultiAZ            bool
	Cache, Broker      string // node and instance type, or none

	WorkerNetwork      string
	FunctionZip        string
	Architecture       string
	WorkerMemoryMiB    int
	MaxConcurrency     int
	ReserveConcurrency bool
	BrowserImage       string
	Spawn              string
	MapsURL            string
	ProxiesSecret      string
	Rate               float64

	ManagerCPU, ManagerMemoryMiB int
	Managers, ManagersMax        int
	Execute                      bool
	MetricsImage                 string

	AlarmEmail string
	BudgetUSD  int
	LogDays    int
}

const none = "none"

// newOptions binds c to the keys of the CDK's context, with the defaults of its stage.
func newOptions(c *Config) *flag.FlagSet {
	prod := c.prod()
	fs := flag.NewFlagSet("infra", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar((*string)(&c.Stage), "stage", string(c.Stage), "dev: `destroy` leaves nothing; prod: it keeps all data")
	fs.StringVar(&c.Region, "region", "us-east-1", "AWS `region`")
	fs.StringVar(&c.Only, "only", string(All), "all, or worker: the function alone, for a Manager elsewhere")
	fs.StringVar(&c.ManagerURL, "managerUrl", "", "with only=worker: `URL` of the Manager, for the output alone")

	fs.StringVar(&c.Image, "image", "", "the Manager's `image`, with tag or digest; dev: :latest of the stage's own repository; needed in prod")
	fs.StringVar(&c.Certificate, "certificate", "", "`ARN` of an ACM certificate for domain, in region; needed in prod; without it HTTP, for allow only")
	fs.StringVar(&c.Domain, "domain", "", "`name` under which people and public workers reach the Manager; needed with certificate")
	fs.StringVar(&c.HostedZone, "hostedZone", "", "`id=name` of the Route 53 zone that gets domain's record, such as Z0123456789=example.org")
	fs.StringVar(&c.Allow, "allow", "", "`CIDRs` that may reach the load balancer, comma-separated; default: everybody with certificate, nobody without")

	fs.StringVar(&c.VPCCIDR, "vpcCidr", "10.42.0.0/16", "the VPC's `CIDR`, /16 to /22")
	fs.IntVar(&c.NATGateways, "natGateways", pick(prod, 2, 1), "NAT gateways: 0 (workerNetwork=public only) to 2, about $37 a month each and $0.045 a GB")
	fs.BoolVar(&c.InterfaceEndpoints, "interfaceEndpoints", false, "reach ECR, CloudWatch Logs, Secrets Manager and Lambda without NAT; about $73 a month")

	fs.StringVar(&c.Database, "database", pick(prod, "db.t4g.medium", "db.t4g.micro"), "RDS instance `class`")
	fs.StringVar(&c.DatabaseVersion, "databaseVersion", "17", "PostgreSQL `version`")
	fs.StringVar(&c.DatabaseCA, "databaseCA", "/etc/ssl/rds/global-bundle.pem", "RDS's root certificates in the Manager's image (infra/Dockerfile puts them there); none: TLS that trusts any server")
	fs.IntVar(&c.DatabaseStorageGiB, "databaseStorage", pick(prod, 50, 20), "`GiB` at first; grows to ten times that")
	fs.IntVar(&c.BackupDays, "backupDays", pick(prod, 14, 1), "`days` of point-in-time recovery, 1 to 35")
	fs.BoolVar(&c.MultiAZ, "multiAz", prod, "a standby of the database, and of the cache, in a second zone")
	fs.StringVar(&c.Cache, "cache", pick(prod, "cache.t4g.small", "cache.t4g.micro"), "Valkey node `type`, or none")
	fs.StringVar(&c.Broker, "broker", none, "Amazon MQ for RabbitMQ instance `type` such as mq.m7g.medium, or none: the system runs without")

	fs.StringVar(&c.WorkerNetwork, "workerNetwork", string(InVPC), "vpc: private way to Manager and cache, NAT to Google; public: no NAT, HTTPS to the Manager, no cache")
	fs.StringVar(&c.FunctionZip, "functionZip", "bin/lambda/function.zip", "`file` with bootstrap, from make lambda; a placeholder that cannot be deployed if it is not there")
	fs.StringVar(&c.Architecture, "architecture", "amd64", "amd64 or arm64, of function, browser image and the Manager's image")
	fs.IntVar(&c.WorkerMemoryMiB, "workerMemory", 1024, "`MiB` of the function, 1024 to 10240; it buys CPU too: one vCPU at 1769")
	fs.IntVar(&c.MaxConcurrency, "maxConcurrency", pick(prod, 100, 10), "workers at once: -spawner-lambda-max-conc, and what reserveConcurrency reserves")
	fs.BoolVar(&c.ReserveConcurrency, "reserveConcurrency", false, "reserve them; fails where fewer than 100 would stay unreserved, as in new accounts")
	fs.StringVar(&c.BrowserImage, "browserImage", "", "`name:tag` or name@sha256:… in this account's ECR: a second function, with Chromium")
	fs.StringVar(&c.Spawn, "spawn", "http", "which function the Manager invokes: http or browser")
	fs.StringVar(&c.MapsURL, "mapsUrl", "", "`URL` of Google Maps, or of a simulator; default: Google's")
	fs.StringVar(&c.ProxiesSecret, "proxiesSecret", "", "complete `ARN` of a secret that holds -proxies, as text")
	fs.Float64Var(&c.Rate, "rate", 0, "requests a second through one exit; 0: a polite default")

	fs.IntVar(&c.ManagerCPU, "managerCpu", pick(prod, 512, 256), "the Manager's CPU `units`, 1024 a vCPU")
	fs.IntVar(&c.ManagerMemoryMiB, "managerMemory", pick(prod, 1024, 512), "the Manager's `MiB`")
	fs.IntVar(&c.Managers, "managers", pick(prod, 2, 1), "Managers at least")
	fs.IntVar(&c.ManagersMax, "managersMax", pick(prod, 4, 1), "Managers at most")
	fs.BoolVar(&c.Execute, "execute", false, "allow ECS Exec into the Manager; its root file system becomes writable")
	fs.StringVar(&c.MetricsImage, "metricsImage", "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3", "`image` of the collector that brings /metrics to CloudWatch, or none")

	fs.StringVar(&c.AlarmEmail, "alarmEmail", "", "`address` that alarms and the budget write to; needed in prod")
	fs.IntVar(&c.BudgetUSD, "budget", pick(prod, 500, 150), "monthly `USD` of the account that alarms; 0: no budget")
	fs.IntVar(&c.LogDays, "logDays", pick(prod, 90, 7), "`days` that logs are kept: 1, 3, 5, 7, 14, 30, 60, 90, 180 or 365")
	return fs
}

func pick[T any](prod bool, inProd, inDev T) T {
	if prod {
		return inProd
	}
	return inDev
}

// parseConfig reads the CDK's context. Keys with one of : / @ in them are the CDK's own. Its errors are one line for the user.
func parseConfig(context map[string]any) (*Config, error) {
	c := &Config{Stage: Dev}
	if v, ok := context["stage"]; ok {
		c.Stage = Stage(fmt.Sprint(v))
	}
	if c.Stage != Dev && c.Stage != Prod {
		return nil, fmt.Errorf("stage: %q is neither dev nor prod", c.Stage)
	}
	fs := newOptions(c)
	keys := make([]string, 0, len(context))
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the same error each time
	for _, k := range keys {
		if isOwn(k) {
			continue
		}
		if fs.Lookup(k) == nil {
			return nil, fmt.Errorf("%s: there is no such option; go run ./infra -help lists them", k)
		}
		text, err := optionText(context[k])
		if err == nil {
			err = fs.Set(k, text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q cannot be read: %v", k, text, err)
		}
	}
	return c, c.validate()
}

// optionText is a value of the context as its option reads it: -c gives text, cdk.json may give anything.
func optionText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	default:
		return fmt.Sprint(v), errors.New("it is no text, number or truth value")
	}
}

var (
	regionForm      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
	certificateForm = regexp.MustCompile(`^arn:aws[a-z-]*:acm:([a-z0-9-]+):\d{12}:certificate/[0-9a-f-]+$`)
	secretForm      = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+-[A-Za-z0-9]{6}$`)
	domainForm      = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$`)
	zoneForm        = regexp.MustCompile(`^Z[A-Z0-9]+=([a-z0-9.-]+)$`)
	imageForm       = regexp.MustCompile(`^[^\s@]+(:[\w.-]+|@sha256:[0-9a-f]{64})$`)
	emailForm       = regexp.MustCompile(`^[^\s@]+@[^\s@]+\.[^\s@]+$`)
	nodeForm        = regexp.MustCompile(`^(none|(db|cache|mq)\.[a-z0-9]+\.[a-z0-9]+)$`)
)

var logDays = []int{1, 3, 5, 7, 14, 30, 60, 90, 180, 365}

// validate finds the first choice that cannot be deployed, or that must not be.
func (c *Config) validate() error {
	for _, r := range []struct {
		key        string
		value      int
		low, above int
	}{
		{"natGateways", c.NATGateways, 0, 2},
		{"databaseStorage", c.DatabaseStorageGiB, 20, 6553},
		{"backupDays", c.BackupDays, 1, 35},
		{"workerMemory", c.WorkerMemoryMiB, 1024, 10240},
		{"maxConcurrency", c.MaxConcurrency, 1, 100_000},
		{"managers", c.Managers, 1, 100},
		{"managersMax", c.ManagersMax, c.Managers, 100},
		{"budget", c.BudgetUSD, 0, 1_000_000},
	} {
		if r.value < r.low || r.value > r.above {
			return fmt.Errorf("%s: %d is not in %d to %d", r.key, r.value, r.low, r.above)
		}
	}
	for _, f := range []struct {
		key, value string
		form       *regexp.Regexp
		want       string
	}{
		{"region", c.Region, regionForm, "a region such as us-east-1"},
		{"certificate", c.Certificate, certificateForm, "the ARN of an ACM certificate"},
		{"domain", c.Domain, domainForm, "a name such as maps.example.org"},
		{"hostedZone", c.HostedZone, zoneForm, "id=name such as Z0123456789=example.org"},
		{"image", c.Image, imageForm, "an image with a tag or digest"},
		{"browserImage", c.BrowserImage, imageForm, "an ECR repository with a tag or digest"},
		{"proxiesSecret", c.ProxiesSecret, secretForm, "a secret's complete ARN, with its six random characters"},
		{"alarmEmail", c.AlarmEmail, emailForm, "an address"},
		{"database", c.Database, nodeForm, "an instance class such as db.t4g.micro"},
		{"cache", c.Cache, nodeForm, "a node type such as cache.t4g.micro, nor none"},
		{"broker", c.Broker, nodeForm, "an instance type such as mq.m7g.medium, nor none"},
	} {
		if f.value != "" && !f.form.MatchString(f.value) {
			return fmt.Errorf("%s: %q is not %s", f.key, f.value, f.want)
		}
	}
	for _, e := range []struct {
		key, value string
		of         []string
	}{
		{"only", c.Only, []string{string(All), string(WorkerOnly)}},
		{"workerNetwork", c.WorkerNetwork, []string{string(InVPC), string(Public)}},
		{"architecture", c.Architecture, []string{"arm64", "amd64"}},
		{"spawn", c.Spawn, []string{"http", "browser"}},
	} {
		if !slices.Contains(e.of, e.value) {
			return fmt.Errorf("%s: %q is none of %s", e.key, e.value, strings.Join(e.of, ", "))
		}
	}
	if !slices.Contains(logDays, c.LogDays) {
		return fmt.Errorf("logDays: %d is none of %s", c.LogDays, strings.Trim(fmt.Sprint(logDays), "[]"))
	}
	if err := c.validateNetwork(); err != nil {
		return err
	}
	switch {
	case c.Spawn == "browser" && c.BrowserImage == "":
		return errors.New("spawn: browser needs browserImage")
	case c.prod() && c.AlarmEmail == "":
		return errors.New("alarmEmail: is needed in prod, or nobody hears an alarm; add -c alarmEmail=ADDRESS")
	case Part(c.Only) == WorkerOnly:
		return nil
	case c.prod() && c.Certificate == "":
		return errors.New("certificate: is needed in prod, or the API key would travel in clear; add -c certificate=ARN")
	case c.Certificate != "" && c.Domain == "":
		return errors.New("domain: is needed with certificate, which holds for it alone; add -c domain=NAME")
	case c.prod() && c.Image == "":
		return errors.New("image: is needed in prod, with a tag or digest that stays; add -c image=REPOSITORY@sha256:DIGEST")
	case c.prod() && strings.HasSuffix(c.Image, ":latest"):
		return errors.New("image: latest changes under a running service; in prod name a version or a digest")
	case c.Certificate != "" && certificateForm.FindStringSubmatch(c.Certificate)[1] != c.Region:
		return fmt.Errorf("certificate: is not in region %s, where the load balancer looks for it", c.Region)
	case c.HostedZone != "" && !strings.HasSuffix(c.Domain, "."+c.zoneName()) && c.Domain != c.zoneName():
		return fmt.Errorf("hostedZone: %q is no part of %s", c.Domain, c.zoneName())
	}
	return nil
}

func (c *Config) validateNetwork() error {
	if p, err := netip.ParsePrefix(c.VPCCIDR); err != nil || !p.Addr().Is4() || p.Bits() < 16 || p.Bits() > 22 || p.Masked() != p {
		return fmt.Errorf("vpcCidr: %q is no IPv4 network of /16 to /22", c.VPCCIDR)
	}
	for _, cidr := range c.allow() {
		p, err := netip.ParsePrefix(cidr)
		if err != nil || !p.Addr().Is4() {
			return fmt.Errorf("allow: %q is no IPv4 network such as 203.0.113.7/32", cidr)
		}
		if p.Bits() == 0 && c.Certificate == "" {
			return errors.New("allow: everybody is too many without certificate: the API key would travel in clear")
		}
	}
	if Part(c.Only) == WorkerOnly {
		return nil
	}
	switch {
	case !c.public() && c.NATGateways == 0:
		return errors.New("natGateways: 0 cuts workers in the VPC off from Google Maps; take 1, or -c workerNetwork=public")
	case c.openManager() && c.prod():
		return errors.New("natGateways: 0 without interfaceEndpoints gives the Manager a public address, which is for dev; take 1, or -c interfaceEndpoints=true")
	case c.NATGateways == 0 && c.InterfaceEndpoints && strings.HasPrefix(c.MetricsImage, "public.ecr.aws/"):
		return errors.New("metricsImage: the public registry is not reached without a NAT gateway; name a copy in your ECR, or none")
	case c.public() && c.Certificate == "":
		return errors.New("workerNetwork: public needs certificate and domain: results and tokens travel over the internet")
	case c.public() && c.Allow != "":
		return errors.New("allow: with workerNetwork=public workers come from any address; leave allow out, or take workerNetwork=vpc")
	}
	return nil
}

func (c *Config) prod() bool   { return c.Stage == Prod }
func (c *Config) public() bool { return WorkerNetwork(c.WorkerNetwork) == Public }

// openManager says that the Manager has an address of its own: it pulls its image and calls AWS with neither NAT nor endpoints. Nothing may
// call it there.
func (c *Config) openManager() bool { return c.NATGateways == 0 && !c.InterfaceEndpoints }

func (c *Config) https() bool { return c.Certificate != "" }

// allow lists the networks that may reach the load balancer.
func (c *Config) allow() []string {
	if c.Allow == "" && c.https() {
		return []string{"0.0.0.0/0"}
	}
	return strings.FieldsFunc(c.Allow, func(r rune) bool { return r == ',' || r == ' ' })
}

func (c *Config) zoneName() string { _, name, _ := strings.Cut(c.HostedZone, "="); return name }

// name is the name of a thing that people must find: gmaps-dev-worker.
func (c *Config) name(part string) string { return "gmaps-" + string(c.Stage) + "-" + part }

// isOwn tells the CDK's own keys of a context from our options.
func isOwn(key string) bool { return strings.ContainsAny(key, ":/@") }

// readContext is what the CDK's command line hands over, and without it the context of the cdk.json called name; what args say, as -c key=value,
// comes last.
func readContext(name string, args []string, getenv func(string) string) (map[string]any, error) {
	context := map[string]any{}
	if text := getenv("CDK_CONTEXT_JSON"); text != "" {
		if err := json.Unmarshal([]byte(text), &context); err != nil {
			return nil, fmt.Errorf("CDK_CONTEXT_JSON: %w", err)
		}
	} else if b, err := os.ReadFile(name); err == nil {
		var file struct{ Context map[string]any }
		if err := json.Unmarshal(b, &file); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		for k, v := range file.Context {
			context[k] = v
		}
	}
	// The command line moves a context that is too long for a variable into a file.
	if name := getenv("CONTEXT_OVERFLOW_LOCATION_ENV"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read context: %w", err)
		}
		if err := json.Unmarshal(b, &context); err != nil {
			return nil, fmt.Errorf("read context %s: %w", name, err)
		}
	}
	for len(args) > 0 {
		if (args[0] != "-c" && args[0] != "--context") || len(args) < 2 {
			return nil, fmt.Errorf("%s: unexpected; options are given as -c key=value", args[0])
		}
		k, v, ok := strings.Cut(args[1], "=")
		if !ok {
			return nil, fmt.Errorf("-c %s: want key=value", args[1])
		}
		context[k], args = v, args[2:]
	}
	return context, nil
}
