package spawner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"golang.org/x/sync/errgroup"
)

// Lambda runs workers as invocations of an AWS Lambda function. It can neither list nor stop them: what it knows of them is what it has
// seen itself, and the Manager counts them by its rows.
type Lambda struct {
	cfg      LambdaConfig
	aws      aws.Config
	client   *lambda.Client
	endpoint string // for people

	calling errgroup.Group // invocations that are held
	ended   chan struct{}  // one of them has

	mu     sync.Mutex
	closed bool
	calls  map[ID]*heldCall
	facts  *functionFacts // nil: not read yet
}

var (
	_ Spawner = (*Lambda)(nil)
	_ Watcher = (*Lambda)(nil)
)

// keepAlive is below the 350 s after which AWS's own NATs and balancers forget a connection that says nothing (VPC guide, NAT gateways, 2026).
const keepAlive = 30 * time.Second

// NewLambda reads credentials and region as the AWS SDK does; an endpoint other than AWS's own is named by AWS_ENDPOINT_URL_LAMBDA or
// AWS_ENDPOINT_URL. It asks nothing of AWS yet. Its errors name a setting. Close ends what it holds.
func NewLambda(ctx context.Context, cfg LambdaConfig) (*Lambda, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	// A held call is silent for as long as the function runs: neither the SDK's own read timeout nor any other may cut it.
	client := awshttp.NewBuildableClient().WithReadTimeout(0).WithDialerOptions(func(d *net.Dialer) {
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 9}
	}).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 16
		t.ForceAttemptHTTP2 = false // a call that breaks off must not take others with it
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryMaxAttempts(1), // the Manager's breaker is who tries again; three attempts take 5 s to surface a throttle
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("spawner-lambda-region: is not given, and neither AWS_REGION nor the AWS profile names one")
	}
	cfg.Region = loaded.Region
	l := &Lambda{cfg: cfg, aws: loaded, client: lambda.NewFromConfig(loaded), ended: make(chan struct{}, 1), calls: make(map[ID]*heldCall)}
	l.endpoint = "lambda." + cfg.Region + ".amazonaws.com"
	if at := l.client.Options().BaseEndpoint; at != nil {
		l.endpoint = *at
	}
	return l, nil
}

// Close ends the calls that are held, and waits for that. Their invocations run on: a Manager that comes back hears of them.
func (l *Lambda) Close() error {
	l.mu.Lock()
	l.closed = true
	for _, c := range l.calls {
		c.cancel(errClosed)
	}
	l.mu.Unlock()
	return l.calling.Wait()
}

var errClosed = errors.New("the Manager was stopped")

// Backend is "lambda".
func (l *Lambda) Backend() string { return "lambda" }

const (
	// maxTimeout is the longest that a function may run (Developer Guide, quotas, 2026).
	maxTimeout = 15 * time.Minute
	// startSlack is for what comes between an invocation and a worker's first words: an environment is made, the runtime begins.
	startSlack = 15 * time.Second
	// syncJoin is how long a worker whose invocation is held may take to speak. One that cannot join gives up before.
	syncJoin = time.Minute
)

// Limits are the operator's cap and facts of the function, as far as they have been read.
func (l *Lambda) Limits() Limits {
	join := syncJoin
	if l.cfg.Invocation == InvokeEvent {
		join = l.cfg.EventAge + startSlack
	}
	limits := Limits{MaxWorkers: l.cfg.MaxConc, Flag: "spawner-lambda-max-conc", Creates: 8, JoinDeadline: join, Lifetime: maxTimeout}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.facts != nil {
		limits.Lifetime = l.facts.timeout
		limits.USDPerSecond = l.facts.usd(time.Second)
	}
	return limits
}

// lambdaPayload is the event of a worker: what docs/lambda.md says, word for word.
type lambdaPayload struct {
	JobID       string `json:"job_id"`
	Priority    int    `json:"priority"`
	ManagerURL  string `json:"manager_url"`
	RabbitMQURL string `json:"rabbitmq_url,omitempty"`
	RedisAddr   string `json:"redis_addr,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"`
	SpawnID     string `json:"spawn_id"`
	WorkerToken string `json:"worker_token"`
}

// payload is what of spec a function is told. A payload is kept by AWS, and may land in a queue of failed events: no password travels in
// it. The token is of use to one worker, once.
func payload(spec Spec) ([]byte, error) {
	concurrency, _ := strconv.Atoi(spec.Env["GMAPS_CONCURRENCY"])
	return json.Marshal(lambdaPayload{
		JobID: spec.JobID, Priority: spec.Priority, ManagerURL: spec.Env["GMAPS_MANAGER_URL"],
		RabbitMQURL: unlessPassword(spec.Secrets["GMAPS_RABBITMQ_URL"]), RedisAddr: unlessPassword(spec.Secrets["GMAPS_REDIS_ADDR"]),
		Concurrency: concurrency, SpawnID: spec.SpawnID, WorkerToken: spec.Secrets["GMAPS_WORKER_TOKEN"],
	})
}

func unlessPassword(address string) string {
	if !strings.Contains(address, "://") {
		if strings.Contains(address, "@") { // no address of host:port
			return ""
		}
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	if _, has := u.User.Password(); has {
		return ""
	}
	return address
}

// Create invokes the function. Lambda knows no names: a second call for one spec invokes it again, unless the first is held here; the
// Manager turns the second worker of a spawn away, and that one ends at once.
func (l *Lambda) Create(ctx context.Context, spec Spec) (Worker, error) {
	body, err := payload(spec)
	if err != nil {
		return Worker{}, &Error{Op: "create", Cause: "other", Err: err}
	}
	if l.cfg.Invocation == InvokeRequestResponse {
		return l.hold(ctx, spec, body)
	}
	traced, sent := whenSent(ctx)
	out, err := l.client.Invoke(traced, &lambda.InvokeInput{FunctionName: &l.cfg.Function, InvocationType: types.InvocationTypeEvent, Payload: body})
	if err != nil {
		return Worker{}, l.uncreated(ctx, err, isClosed(sent))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	if id == "" {
		id = spec.Name // an endpoint of somebody else's
	}
	return l.worker(spec, ID(id)), nil
}

func (l *Lambda) worker(spec Spec, id ID) Worker {
	return Worker{ID: id, Name: spec.Name, SpawnID: spec.SpawnID, JobID: spec.JobID, Running: true, CreatedAt: time.Now()}
}

// List is what Lambda cannot do.
func (l *Lambda) List(context.Context) ([]Worker, error) { return nil, errors.ErrUnsupported }

// Stop is what Lambda cannot do.
func (l *Lambda) Stop(context.Context, ID, time.Duration) error { return errors.ErrUnsupported }

// Collect returns how a held invocation ended; of any other, where its log is.
func (l *Lambda) Collect(_ context.Context, id ID) (Exit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.calls[id]; c != nil {
		if !c.over {
			return Exit{}, &Error{Op: "collect", Reason: fmt.Sprintf("worker %s runs", id), Retry: true, Cause: "other"}
		}
		return c.exit, nil
	}
	return Exit{Code: -1, LogTail: l.whereLogs(id)}, nil
}

// whereLogs names the log of an invocation. The caller holds mu.
func (l *Lambda) whereLogs(id ID) string {
	group := "/aws/lambda/" + shortName(l.cfg.Function)
	if l.facts != nil && l.facts.logGroup != "" {
		group = l.facts.logGroup
	}
	where := fmt.Sprintf("its log is in CloudWatch, region %s, log group %s", l.cfg.Region, group)
	if !strings.HasPrefix(string(id), "gmaps-worker-") {
		where += ", request id " + string(id)
	}
	return where
}

// shortName is a function's name without what may come before and after it.
func shortName(function string) string {
	if _, name, isARN := strings.Cut(function, ":function:"); isARN {
		function = name
	}
	name, _, _ := strings.Cut(function, ":")
	return name
}

// Remove forgets how a held invocation ended.
func (l *Lambda) Remove(_ context.Context, id ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[id]
	if c != nil && !c.over {
		return &Error{Op: "remove", Reason: fmt.Sprintf("worker %s runs", id), Cause: "other"}
	}
	delete(l.calls, id)
	return nil
}

// factsAge is for how long what was read of the function is believed: its timeout may be changed at any time.
const factsAge = 5 * time.Minute

// Watch tells of the ends of held invocations. It keeps up, too, with the function's settings.
func (l *Lambda) Watch(ctx context.Context, changed func()) error {
	again := time.NewTicker(factsAge)
	defer again.Stop()
	l.learn(ctx)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.ended:
			changed()
		case <-again.C:
			l.learn(ctx)
		}
	}
}

// learn reads the function's facts. What cannot be read is told by Check; meanwhile the largest values hold.
func (l *Lambda) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	f, err := l.read(ctx)
	if err != nil {
		l.cfg.Logger.DebugContext(ctx, "lambda function not read", "err", err)
		return
	}
	l.mu.Lock()
	l.facts = &f
	l.mu.Unlock()
}
