package spawner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// Describer is a Spawner that has more to tell of its backend than that it works.
type Describer interface {
	// Describe is Check, and says what it found: a line for each fact and for each piece of advice.
	Describe(ctx context.Context) ([]string, error)
}

var _ Describer = (*Lambda)(nil)

// Prices of a GB-second in US dollars: list price of the first tier, us-east-1, without the free tier and discounts, nor the 0.20 USD for a
// million invocations (aws.amazon.com/lambda/pricing, 2026). Other regions differ by up to a third.
const (
	usdPerGBSecondX86 = 0.0000166667
	usdPerGBSecondARM = 0.0000133334
)

// functionFacts is what of a function's configuration matters here.
type functionFacts struct {
	state, stateReason, update, updateReason string
	runtime, packageType, architecture       string
	timeout                                  time.Duration
	memoryMiB                                int
	reserved                                 *int32
	logGroup                                 string
}

// usd is what running for d costs.
func (f functionFacts) usd(d time.Duration) float64 {
	price := usdPerGBSecondX86
	if f.architecture == string(types.ArchitectureArm64) {
		price = usdPerGBSecondARM
	}
	return float64(f.memoryMiB) / 1024 * d.Seconds() * price
}

func (l *Lambda) read(ctx context.Context) (functionFacts, error) {
	out, err := l.client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &l.cfg.Function})
	if err != nil {
		return functionFacts{}, err
	}
	f := functionFacts{timeout: maxTimeout, architecture: string(types.ArchitectureX8664), packageType: string(types.PackageTypeZip)}
	if c := out.Configuration; c != nil {
		f.state, f.stateReason = string(c.State), deref(c.StateReason)
		f.update, f.updateReason = string(c.LastUpdateStatus), deref(c.LastUpdateStatusReason)
		f.runtime = string(c.Runtime)
		if c.PackageType != "" {
			f.packageType = string(c.PackageType)
		}
		if len(c.Architectures) > 0 {
			f.architecture = string(c.Architectures[0])
		}
		if c.Timeout != nil && *c.Timeout > 0 {
			f.timeout = time.Duration(*c.Timeout) * time.Second
		}
		if c.MemorySize != nil {
			f.memoryMiB = int(*c.MemorySize)
		}
		if c.LoggingConfig != nil {
			f.logGroup = deref(c.LoggingConfig.LogGroup)
		}
	}
	if out.Concurrency != nil {
		f.reserved = out.Concurrency.ReservedConcurrentExecutions
	}
	return f, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Check finds out whether the function may be invoked and is one that can run a worker, without running it.
func (l *Lambda) Check(ctx context.Context) error {
	_, err := l.Describe(ctx)
	return err
}

// Describe implements Describer.
func (l *Lambda) Describe(ctx context.Context) ([]string, error) {
	if _, err := l.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &l.cfg.Function, InvocationType: types.InvocationTypeDryRun}); err != nil {
		return nil, l.refused(ctx, "check", err)
	}
	may := fmt.Sprintf("function %s may be invoked (%s) through %s", l.cfg.Function, l.cfg.Invocation, l.endpoint)
	f, err := l.read(ctx)
	if denied, ok := errors.AsType[smithy.APIError](err); ok && isDenied(denied.ErrorCode()) {
		return []string{may, "advice: lambda:GetFunction is denied, so its timeout counts as 900 s and costs are not known; allow it on the function"}, nil
	}
	if err != nil {
		return nil, l.refused(ctx, "check", err)
	}
	l.mu.Lock()
	l.facts = &f
	l.mu.Unlock()
	if err := l.unfit(f); err != nil {
		return nil, err
	}
	kind := f.runtime
	if f.packageType == string(types.PackageTypeImage) {
		kind = "container image"
	}
	return append([]string{may, fmt.Sprintf("%s, %s, %d MB, timeout %.0f s: about %.4f USD a worker for each hour that it runs",
		kind, f.architecture, f.memoryMiB, f.timeout.Seconds(), f.usd(time.Hour))}, l.advice(f)...), nil
}

// unfit says why a function cannot run a worker.
func (l *Lambda) unfit(f functionFacts) error {
	e := &Error{Op: "check", Cause: "image"}
	switch {
	case f.state == string(types.StatePending):
		e.Reason, e.Mend, e.Retry = fmt.Sprintf("function %s is Pending: Lambda is still making it ready%s", l.cfg.Function, inBrackets(f.stateReason)), "wait a minute", true
	case f.state == string(types.StateInactive):
		e.Reason, e.Retry = fmt.Sprintf("function %s is Inactive: it has not been invoked for weeks%s", l.cfg.Function, inBrackets(f.stateReason)), true
		e.Mend = "the first invocation fails and wakes it; wait a minute after that"
	case f.state == string(types.StateFailed):
		e.Reason, e.Mend = fmt.Sprintf("function %s has Failed%s", l.cfg.Function, inBrackets(f.stateReason)), "mend what its state's reason says, or create it anew"
	case f.packageType == string(types.PackageTypeZip) && !slices.Contains([]string{"provided.al2023", "provided.al2"}, f.runtime):
		e.Reason = fmt.Sprintf("function %s has the runtime %s, which cannot run the worker", l.cfg.Function, f.runtime)
		e.Mend = fmt.Sprintf("aws lambda update-function-configuration --function-name %s --runtime provided.al2023 --handler bootstrap", l.cfg.Function)
	default:
		return nil
	}
	return e
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// advice is what would be better.
func (l *Lambda) advice(f functionFacts) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, "advice: "+fmt.Sprintf(format, args...)) }
	if f.timeout < 10*time.Second {
		add("a timeout of %.0f s is over before a worker has done anything: raise it, at best to 900 s", f.timeout.Seconds())
	} else if f.timeout < 2*time.Minute {
		add("a worker hands its tasks back a tenth of the time before the timeout of %.0f s: 900 s waste least", f.timeout.Seconds())
	}
	if f.memoryMiB > 0 && f.memoryMiB < 512 {
		add("%d MB are little, and processor time goes with it: 1024 MB is better", f.memoryMiB)
	}
	if f.reserved != nil && int(*f.reserved) < l.cfg.MaxConc {
		add("the function's reserved concurrency is %d, below -spawner-lambda-max-conc %d: the rest would be throttled", *f.reserved, l.cfg.MaxConc)
	}
	if f.update == string(types.LastUpdateStatusFailed) {
		add("its last update failed%s: the code before it runs", inBrackets(f.updateReason))
	}
	return lines
}

func isDenied(code string) bool { return strings.HasPrefix(code, "AccessDenied") }
