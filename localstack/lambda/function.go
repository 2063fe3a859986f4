package lambda

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of a function's configuration (Developer Guide, Lambda quotas, 2026).
const (
	maxTimeoutSeconds   = 900
	minMemoryMiB        = 128
	maxMemoryMiB        = 10240
	minEphemeralMiB     = 512
	maxEphemeralMiB     = 10240
	maxEnvironmentBytes = 4096
)

// function is one function. All its fields but key, arn and log are guarded by Emulator.mu.
type function struct {
	key functionKey
	arn string
	log functionLog

	latest    *version
	published []*version
	aliases   map[string]*alias
	reserved  *int
	events    map[string]*eventConfig // by qualifier
	deleted   bool

	idle  map[*version][]*environment // frozen, the most recently used last
	stats Stats
}

// version is what an environment runs: code and configuration. It is not changed once it is reachable; an update makes another.
type version struct {
	function *function
	number   string // $LATEST, 1, 2, …
	settings
	code     *code
	revision string
	modified time.Time
	readyAt  time.Time // until then it is Pending or InProgress
	created  bool      // by CreateFunction, not by an update
}

// settings are what CreateFunction and UpdateFunctionConfiguration set.
type settings struct {
	runtime, role, handler, description string
	memoryMiB, timeoutSeconds           int
	ephemeralMiB                        int
	environment                         map[string]string
	architecture                        string
}

func (v *version) arn() string {
	if v.number == latest {
		return v.function.arn
	}
	return v.function.arn + ":" + v.number
}

func (v *version) timeout() time.Duration { return time.Duration(v.timeoutSeconds) * time.Second }

type alias struct {
	Name            string
	AliasArn        string
	FunctionVersion string
	Description     string
	RevisionId      string //nolint:revive,staticcheck // AWS's spelling
}

// settingsRequest is the part that CreateFunction and UpdateFunctionConfiguration share. Absent members are nil.
type settingsRequest struct {
	Runtime, Role, Handler, Description *string
	MemorySize, Timeout                 *int
	Environment                         *struct{ Variables map[string]string }
	EphemeralStorage                    *struct{ Size int }
	Layers                              []string
	FileSystemConfigs                   []json.RawMessage
	DeadLetterConfig                    *struct{ TargetArn string }
}

var (
	rolePattern  = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`)
	variableName = regexp.MustCompile(`^[a-zA-Z]([a-zA-Z0-9_])+$`)
)

// apply returns s with what r changes, or AWS's complaint.
func (s settings) apply(r settingsRequest) (settings, *apiError) {
	set := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	set(&s.runtime, r.Runtime)
	set(&s.role, r.Role)
	set(&s.handler, r.Handler)
	set(&s.description, r.Description)
	if r.MemorySize != nil {
		s.memoryMiB = *r.MemorySize
	}
	if r.Timeout != nil {
		s.timeoutSeconds = *r.Timeout
	}
	if r.EphemeralStorage != nil {
		s.ephemeralMiB = r.EphemeralStorage.Size
	}
	if r.Environment != nil {
		s.environment = maps.Clone(r.Environment.Variables)
	}
	if err := s.validate(); err != nil {
		return s, err
	}
	if len(r.Layers) > 0 || len(r.FileSystemConfigs) > 0 || r.DeadLetterConfig != nil && r.DeadLetterConfig.TargetArn != "" {
		return s, invalidParameter("the local Lambda emulator has no layers, file systems and dead-letter queues; leave them out")
	}
	return s, nil
}

func (s settings) validate() *apiError {
	within := func(member string, v, low, high int) *apiError {
		switch {
		case v < low:
			return violated(v, member, fmt.Sprintf("Member must have value greater than or equal to %d", low))
		case v > high:
			return violated(v, member, fmt.Sprintf("Member must have value less than or equal to %d", high))
		}
		return nil
	}
	for _, err := range []*apiError{
		within("timeout", s.timeoutSeconds, 1, maxTimeoutSeconds),
		within("memorySize", s.memoryMiB, minMemoryMiB, maxMemoryMiB),
		within("ephemeralStorage.size", s.ephemeralMiB, minEphemeralMiB, maxEphemeralMiB),
	} {
		if err != nil {
			return err
		}
	}
	if s.runtime == "" || s.handler == "" {
		return invalidParameter("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	switch {
	case s.runtime == "go1.x":
		return invalidParameter("The runtime parameter of go1.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.")
	case !strings.HasPrefix(s.runtime, "provided.al"):
		return invalidParameter("the local Lambda emulator does not run the runtime %q; build a bootstrap for provided.al2023", s.runtime)
	}
	if !rolePattern.MatchString(s.role) {
		return violated(s.role, "role", "Member must satisfy regular expression pattern: "+rolePattern.String())
	}
	if _, ok := machines[s.architecture]; !ok {
		return violated("["+s.architecture+"]", "architectures", "Member must satisfy enum value set: [x86_64, arm64]")
	}
	return validateEnvironment(s.environment)
}

// reservedVariables are set by Lambda (Developer Guide, defined runtime environment variables, 2026).
var reservedVariables = map[string]bool{
	"_HANDLER": true, "_X_AMZN_TRACE_ID": true, "AWS_DEFAULT_REGION": true, "AWS_REGION": true, "AWS_EXECUTION_ENV": true,
	"AWS_LAMBDA_FUNCTION_NAME": true, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": true, "AWS_LAMBDA_FUNCTION_VERSION": true,
	"AWS_LAMBDA_INITIALIZATION_TYPE": true, "AWS_LAMBDA_LOG_GROUP_NAME": true, "AWS_LAMBDA_LOG_STREAM_NAME": true, "AWS_ACCESS_KEY": true,
	"AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true, "AWS_SESSION_TOKEN": true, "AWS_LAMBDA_RUNTIME_API": true,
	"LAMBDA_TASK_ROOT": true, "LAMBDA_RUNTIME_DIR": true,
}

func validateEnvironment(env map[string]string) *apiError {
	var taken []string
	size := 0
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if reservedVariables[name] {
			taken = append(taken, name)
		} else if !variableName.MatchString(name) {
			return violated(name, "environment.variables", "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]")
		}
		size += len(name) + len(env[name])
	}
	if len(taken) > 0 {
		return invalidParameter("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(taken, ", "))
	}
	if size > maxEnvironmentBytes {
		return invalidParameter("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit.")
	}
	return nil
}

// configuration is a version as GetFunctionConfiguration shows it.
type configuration struct {
	FunctionName, FunctionArn, Runtime, Role, Handler string
	CodeSize                                          int64
	Description                                       string
	Timeout, MemorySize                               int
	LastModified, CodeSha256, Version                 string
	Environment                                       *variables `json:",omitempty"`
	TracingConfig                                     map[string]string
	RevisionId                                        string //nolint:revive,staticcheck // AWS's spelling
	State                                             string
	StateReason, StateReasonCode                      string `json:",omitempty"`
	LastUpdateStatus                                  string
	PackageType                                       string
	Architectures                                     []string
	EphemeralStorage                                  map[string]int
	LoggingConfig                                     map[string]string
}

type variables struct{ Variables map[string]string }

func (v *version) describe() configuration {
	c := configuration{
		FunctionName: v.function.key.name, FunctionArn: v.arn(), Runtime: v.runtime, Role: v.role, Handler: v.handler,
		CodeSize: v.code.size, Description: v.description, Timeout: v.timeoutSeconds, MemorySize: v.memoryMiB,
		LastModified: v.modified.UTC().Format("2006-01-02T15:04:05.000-0700"), CodeSha256: v.code.sha256, Version: v.number,
		TracingConfig: map[string]string{"Mode": "PassThrough"}, RevisionId: v.revision, State: "Active", LastUpdateStatus: "Successful",
		PackageType: "Zip", Architectures: []string{v.architecture}, EphemeralStorage: map[string]int{"Size": v.ephemeralMiB},
		LoggingConfig: map[string]string{"LogFormat": "Text", "LogGroup": v.logGroup()},
	}
	if len(v.environment) > 0 {
		c.Environment = &variables{v.environment}
	}
	switch {
	case v.pending():
		c.State, c.StateReason, c.StateReasonCode = "Pending", "The function is being created.", "Creating"
	case v.updating():
		c.LastUpdateStatus = "InProgress"
	}
	return c
}

func (v *version) logGroup() string { return "/aws/lambda/" + v.function.key.name }

func (v *version) pending() bool  { return v.created && time.Now().Before(v.readyAt) }
func (v *version) updating() bool { return !v.created && time.Now().Before(v.readyAt) }

// resolve returns the version that a qualifier names. Emulator.mu is held.
func (f *function) resolve(qualifier string) (*version, *apiError) {
	if qualifier == "" || qualifier == latest {
		return f.latest, nil
	}
	if a := f.aliases[qualifier]; a != nil {
		qualifier = a.FunctionVersion
		if qualifier == latest {
			return f.latest, nil
		}
	}
	for _, v := range f.published {
		if v.number == qualifier {
			return v, nil
		}
	}
	return nil, notFound("Function not found: %s:%s", f.arn, qualifier)
}
