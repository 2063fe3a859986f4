package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// SandboxKind is what an execution environment is made of.
type SandboxKind string

// The sandboxes.
const (
	// SandboxAuto is a container where a Docker engine has Config.Image, else a child process.
	SandboxAuto SandboxKind = "auto"
	// SandboxProcess is a child process in a process group of its own; as another user than root where the emulator is root. Unix only.
	SandboxProcess SandboxKind = "process"
	// SandboxContainer is a container without root, whose file system is read-only but for /tmp, with the function's memory and /tmp size.
	SandboxContainer SandboxKind = "container"
)

// Config is what an Emulator is. The zero value runs functions as child processes, with AWS's limits and waits.
type Config struct {
	// Account is the account id in ARNs, 12 digits. Default 000000000000.
	Account string
	// StateDir holds unpacked code and the functions' temporary files, in a folder that Close removes. Functions run as another user when
	// the emulator is root, so that its parents must be open to all. Default: the system's folder for temporary files.
	StateDir string
	// Sandbox is what functions run in. Default SandboxProcess.
	Sandbox SandboxKind
	// Image is the image of container sandboxes; only its files serve, its entry point is replaced. Default public.ecr.aws/lambda/provided:al2023.
	Image string
	// Network is the Docker network of container sandboxes. Default host, so that a function reaches 127.0.0.1 as a child process does.
	// On another network the Runtime API is at host.docker.internal.
	Network string
	// URL is the base URL at which functions reach this emulator; they see it as AWS_ENDPOINT_URL. Empty: they do not.
	URL string
	// Concurrency is the account's limit of running invocations. Default 1,000, as AWS's for a seasoned account; a new one has less.
	Concurrency int
	// RetryScale multiplies the waits of the event queue (1 and 2 minutes between retries, 1 s to 5 min after a throttle) and the age at
	// which an event is given up, 0 to 1. 0: 1.
	RetryScale float64
	// EventBytes bounds the payload of an Event. Default 1 MiB; AWS allowed 256 KiB until late in 2025.
	EventBytes int
	// Activation is how long a new or updated function stays Pending or InProgress. 0: 200 ms. AWS takes seconds.
	Activation time.Duration
	// IdleTTL is how long a frozen environment is kept. 0: 5 min.
	IdleTTL time.Duration
	// Denied lists actions that are refused with AccessDeniedException, as "lambda:InvokeFunction" or "secretsmanager:GetSecretValue".
	Denied []string
	// Secrets are what secretsmanager:GetSecretValue finds, by name.
	Secrets map[string]string
	// Fault, if set, decides for every Invoke before the rules do. It is called concurrently.
	Fault func(Call) Fault
	// Logs receives every line of every function, after the function's name. Writes are serialised. Nil: none.
	Logs io.Writer
	// Logger receives one Debug line a request and a Warn line for what the emulator itself cannot do. Nil: none.
	Logger *slog.Logger
}

const (
	defaultAccount     = "000000000000"
	defaultImage       = "public.ecr.aws/lambda/provided:al2023"
	defaultConcurrency = 1000
	defaultEventBytes  = 1 << 20
	defaultActivation  = 200 * time.Millisecond
	defaultIdleTTL     = 5 * time.Minute
)

func (c *Config) defaults() error {
	if c.Account == "" {
		c.Account = defaultAccount
	}
	if c.Sandbox == "" {
		c.Sandbox = SandboxProcess
	}
	if c.Image == "" {
		c.Image = defaultImage
	}
	if c.Network == "" {
		c.Network = hostNetwork
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.RetryScale == 0 {
		c.RetryScale = 1
	}
	if c.EventBytes == 0 {
		c.EventBytes = defaultEventBytes
	}
	if c.Activation == 0 {
		c.Activation = defaultActivation
	}
	if c.IdleTTL == 0 {
		c.IdleTTL = defaultIdleTTL
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		errs = append(errs, fmt.Errorf("lambda: Account: %q is not 12 digits", c.Account))
	}
	switch c.Sandbox {
	case SandboxAuto, SandboxProcess, SandboxContainer:
	default:
		errs = append(errs, fmt.Errorf("lambda: Sandbox: %q is none of auto, process, container", c.Sandbox))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("lambda: Concurrency: %d is below 1", c.Concurrency))
	}
	if c.RetryScale < 0 || c.RetryScale > 1 {
		errs = append(errs, fmt.Errorf("lambda: RetryScale: %v is not within 0 and 1", c.RetryScale))
	}
	if c.EventBytes < 0 || c.EventBytes > maxSyncBytes {
		errs = append(errs, fmt.Errorf("lambda: EventBytes: %d is not within 0 and %d", c.EventBytes, maxSyncBytes))
	}
	if c.Activation < 0 {
		errs = append(errs, fmt.Errorf("lambda: Activation: %v is below 0s", c.Activation))
	}
	if c.IdleTTL < 0 {
		errs = append(errs, fmt.Errorf("lambda: IdleTTL: %v is below 0s", c.IdleTTL))
	}
	return errors.Join(errs...)
}

// Emulator is an http.Handler that answers as AWS Lambda does. It is safe for concurrent use. Close ends what it has started.
type Emulator struct {
	config  Config
	dir     string
	log     *slog.Logger
	mux     *http.ServeMux
	starter starter
	logs    *logWriter
	faults  faultScript

	closed chan struct{}
	once   sync.Once
	tasks  sync.WaitGroup // goroutines of ours

	mu           sync.Mutex
	functions    map[functionKey]*function
	environments map[*environment]struct{} // all that live
	discarded    []Record
}

// functionKey says that a name is unique within a region.
type functionKey struct{ region, name string }

// New returns an Emulator. It fails if a field of c is out of its bounds, or its sandbox is not to be had on this machine.
func New(c Config) (*Emulator, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.StateDir, "lambda-")
	if err != nil {
		return nil, fmt.Errorf("lambda: make the folder of functions: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("lambda: folder of functions: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // functions may run as another user
		return nil, fmt.Errorf("lambda: open the folder of functions: %w", err)
	}
	e := &Emulator{
		config: c, dir: dir, log: c.Logger, mux: http.NewServeMux(), logs: &logWriter{w: c.Logs},
		closed: make(chan struct{}), functions: map[functionKey]*function{}, environments: map[*environment]struct{}{},
	}
	if e.starter, err = newStarter(c, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	e.routes()
	e.tasks.Go(e.sweep)
	return e, nil
}

// Sandbox is what functions run in: SandboxProcess or SandboxContainer.
func (e *Emulator) Sandbox() SandboxKind { return e.starter.kind() }

// Close kills every environment, waits for what it has started and removes its files. Running invocations are answered with 503. A second call is a no-op.
func (e *Emulator) Close() error {
	var err error
	e.once.Do(func() {
		e.mu.Lock()
		close(e.closed)
		var all []*environment
		for env := range e.environments {
			all = append(all, env)
		}
		e.mu.Unlock()
		for _, env := range all {
			env.discard()
		}
		e.tasks.Wait()
		err = errors.Join(e.starter.close(), os.RemoveAll(e.dir))
	})
	return err
}

// goroutine runs f unless the emulator is closed, which waits for it.
func (e *Emulator) goroutine(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isClosed() {
		return false
	}
	e.tasks.Go(f)
	return true
}

// locked is goroutine for callers that hold Emulator.mu.
func (e *Emulator) locked(f func()) {
	if !e.isClosed() {
		e.tasks.Go(f)
	}
}

func (e *Emulator) isClosed() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

// sleep is false if the emulator was closed meanwhile.
func (e *Emulator) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.closed:
		return false
	}
}

func (e *Emulator) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * e.config.RetryScale)
}

const functionsPath = "/2015-03-31/functions"

func (e *Emulator) routes() {
	api := func(pattern, action string, h func(c *call) *apiError) {
		e.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { e.serve(w, r, action, h) })
	}
	one := functionsPath + "/{name}"
	api("POST "+functionsPath, "CreateFunction", e.createFunction)
	api("GET "+functionsPath, "ListFunctions", e.listFunctions)
	api("GET "+one, "GetFunction", e.getFunction)
	api("GET "+one+"/configuration", "GetFunctionConfiguration", e.getConfiguration)
	api("PUT "+one+"/code", "UpdateFunctionCode", e.updateCode)
	api("PUT "+one+"/configuration", "UpdateFunctionConfiguration", e.updateConfiguration)
	api("DELETE "+one, "DeleteFunction", e.deleteFunction)
	api("POST "+one+"/versions", "PublishVersion", e.publishVersion)
	api("POST "+one+"/aliases", "CreateAlias", e.createAlias)
	api("GET "+one+"/aliases/{alias}", "GetAlias", e.getAlias)
	api("PUT /2017-10-31/functions/{name}/concurrency", "PutFunctionConcurrency", e.putConcurrency)
	api("GET /2019-09-30/functions/{name}/concurrency", "GetFunctionConcurrency", e.getConcurrency)
	api("DELETE /2017-10-31/functions/{name}/concurrency", "DeleteFunctionConcurrency", e.deleteConcurrency)
	for method, action := range map[string]string{"PUT": "PutFunctionEventInvokeConfig", "POST": "UpdateFunctionEventInvokeConfig"} {
		api(method+" /2019-09-25/functions/{name}/event-invoke-config", action, e.putEventConfig)
	}
	api("GET /2019-09-25/functions/{name}/event-invoke-config", "GetFunctionEventInvokeConfig", e.getEventConfig)
	api("DELETE /2019-09-25/functions/{name}/event-invoke-config", "DeleteFunctionEventInvokeConfig", e.deleteEventConfig)
	api("GET /2016-08-19/account-settings", "GetAccountSettings", e.accountSettings)
	api("POST "+one+"/invocations", "InvokeFunction", e.invoke)

	e.mux.HandleFunc("POST /{$}", e.serveOther)
	e.adminRoutes()
	e.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, code: "UnknownOperationException", message: "the emulator does not know " + r.Method + " " + r.URL.Path})
	})
}

// ServeHTTP answers as AWS does. For a fault that cuts the connection it panics with http.ErrAbortHandler, as net/http prescribes.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" { // some SDKs end a path with a slash
		r.URL.Path, r.URL.RawPath = strings.TrimSuffix(r.URL.Path, "/"), strings.TrimSuffix(r.URL.RawPath, "/")
	}
	e.mux.ServeHTTP(w, r)
}

// call is one signed request to the Lambda API.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	requestID string
	action    string
	signature signature
}

// signature is what a request's Authorization header says of its sender.
type signature struct{ accessKey, region, service string }

// readSignature reads a SigV4 header: AWS4-HMAC-SHA256 Credential=KEY/20261125/us-east-1/lambda/aws4_request, SignedHeaders=…, Signature=….
func readSignature(r *http.Request) (signature, *apiError) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return signature{}, &apiError{status: http.StatusForbidden, code: "MissingAuthenticationTokenException", message: "Missing Authentication Token"}
	}
	_, after, ok := strings.Cut(header, "Credential=")
	credential, _, _ := strings.Cut(after, ",")
	parts := strings.Split(credential, "/")
	if !ok || !strings.HasPrefix(header, "AWS4-") || len(parts) != 5 || parts[4] != "aws4_request" || !strings.Contains(header, "Signature=") {
		return signature{}, &apiError{status: http.StatusForbidden, code: "IncompleteSignatureException",
			message: "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter."}
	}
	return signature{accessKey: parts[0], region: parts[2], service: parts[3]}, nil
}

func (e *Emulator) serve(w http.ResponseWriter, r *http.Request, action string, h func(c *call) *apiError) {
	c := &call{w: w, r: r, requestID: newID(), action: "lambda:" + action}
	w.Header().Set("X-Amzn-Requestid", c.requestID)
	var err *apiError
	if c.signature, err = readSignature(r); err == nil {
		if err = e.authorise(c.action, e.resource(c)); err == nil {
			err = h(c)
		}
	}
	code := ""
	if err != nil {
		code = err.code
		writeError(w, err)
	}
	e.log.Debug("request answered", "action", c.action, "request", c.requestID, "path", r.URL.Path, "code", code)
}

// resource is the ARN that a refusal names.
func (e *Emulator) resource(c *call) string {
	ref, err := parseReference(c.r.PathValue("name"), "")
	if err != nil {
		return "*"
	}
	return arnOf(c.signature.region, e.config.Account, ref.name)
}

func (e *Emulator) authorise(action, resource string) *apiError {
	for _, denied := range e.config.Denied {
		if denied == action {
			return accessDenied(e.caller(), action, resource)
		}
	}
	return nil
}

// caller is who every request comes from.
func (e *Emulator) caller() string { return "arn:aws:iam::" + e.config.Account + ":user/emulator" }

// newID returns a random UUID, as AWS's request ids are.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
