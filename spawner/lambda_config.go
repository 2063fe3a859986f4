package spawner

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// Invocation says whether a Create waits for what Lambda makes of it.
type Invocation string

// The invocations.
const (
	InvokeEvent           Invocation = "Event"           // queued by Lambda; its end is known by the worker's goodbye
	InvokeRequestResponse Invocation = "RequestResponse" // held open; its end is seen, with its log
)

const (
	// DefaultLambdaMaxConc is how many invocations run at most if the operator does not say.
	DefaultLambdaMaxConc = 100
	// DefaultEventAge is the least that a function can be configured to keep an event for (MaximumEventAgeInSeconds; API Reference,
	// PutFunctionEventInvokeConfig, 2026). Lambda's own default is six hours.
	DefaultEventAge = time.Minute
)

// LambdaConfig says which function a worker is. Function is required.
type LambdaConfig struct {
	// Function is a name, a partial ARN or an ARN, each with :alias or :version if wanted.
	Function string
	// Region default: that of Function's ARN, else the one that the SDK finds (AWS_REGION, the profile).
	Region string
	// Invocation default: InvokeEvent.
	Invocation Invocation
	// MaxConc caps the invocations that may run at a time. Default 100.
	MaxConc int
	// EventAge is the function's MaximumEventAgeInSeconds: an event that has not begun to run by then never does. Default 1 min.
	EventAge time.Duration
	// Logger default: none.
	Logger *slog.Logger
}

func (c *LambdaConfig) setDefaults() {
	if c.Invocation == "" {
		c.Invocation = InvokeEvent
	}
	if c.MaxConc == 0 {
		c.MaxConc = DefaultLambdaMaxConc
	}
	if c.EventAge == 0 {
		c.EventAge = DefaultEventAge
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if arn := functionARN.FindStringSubmatch(c.Function); arn != nil && c.Region == "" {
		c.Region = arn[1]
	}
}

var (
	functionARN  = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:([a-z0-9-]+):\d{12}:function:[\w-]{1,140}(?::[\w$-]+)?$`)
	functionName = regexp.MustCompile(`^(?:\d{12}:function:)?[\w-]{1,64}(?::[\w$-]+)?$`)
)

func (c *LambdaConfig) validate() error {
	var errs []error
	arn := functionARN.FindStringSubmatch(c.Function)
	switch {
	case c.Function == "":
		errs = append(errs, errors.New("spawner-lambda-function: is empty"))
	case arn == nil && strings.HasPrefix(c.Function, "arn:"):
		errs = append(errs, fmt.Errorf("spawner-lambda-function: %q is no ARN of a function: arn:aws:lambda:REGION:ACCOUNT:function:NAME", c.Function))
	case arn == nil && !functionName.MatchString(c.Function):
		errs = append(errs, fmt.Errorf("spawner-lambda-function: %q is neither a function's name nor its ARN", c.Function))
	case arn != nil && arn[1] != c.Region:
		errs = append(errs, fmt.Errorf("spawner-lambda-region: %s is not the region of %s", c.Region, c.Function))
	}
	if c.Invocation != InvokeEvent && c.Invocation != InvokeRequestResponse {
		errs = append(errs, fmt.Errorf("spawner-lambda-invocation: %q is neither Event nor RequestResponse", c.Invocation))
	}
	if c.MaxConc < 1 {
		errs = append(errs, fmt.Errorf("spawner-lambda-max-conc: %d is below 1", c.MaxConc))
	}
	if c.EventAge < DefaultEventAge || c.EventAge > 6*time.Hour {
		errs = append(errs, fmt.Errorf("spawner-lambda-event-age: %s is not between 1m and 6h", c.EventAge))
	}
	return errors.Join(errs...)
}
