package lambda

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// FaultKind is one way in which an Invoke goes wrong.
type FaultKind string

// The faults.
const (
	FaultNone      FaultKind = ""
	FaultThrottle  FaultKind = "throttle"  // 429 TooManyRequestsException with Reason, Retry-After: 1
	FaultError     FaultKind = "error"     // Status and Code; by default 500 ServiceException
	FaultDeny      FaultKind = "deny"      // 403 AccessDeniedException
	FaultDrop      FaultKind = "drop"      // an Event is answered 202 and never run; has no effect on other types
	FaultDuplicate FaultKind = "duplicate" // an Event is delivered Times times, at once; has no effect on other types
	FaultDelay     FaultKind = "delay"     // nothing happens for Delay, then all goes well
	FaultKill      FaultKind = "kill"      // the environment is killed after Fraction of the function's timeout, as when it ran out of memory
	FaultCut       FaultKind = "cut"       // the function is run, or the event queued, and the connection lost before the answer
)

// Fault is what happens to one Invoke. Fields that its Kind does not name are ignored.
type Fault struct {
	Kind FaultKind `json:"fault"`
	// Reason of a throttle. Default ReservedFunctionConcurrentInvocationLimitExceeded.
	Reason string `json:"reason,omitempty"`
	// Status of an error, 400 to 599, and its X-Amzn-ErrorType: 502 EC2ThrottledException, 502 ENILimitReachedException, 403 UnrecognizedClientException….
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
	// Times a duplicate is delivered, 2 or more. Default 2.
	Times int `json:"times,omitempty"`
	// Delay before all else; in JSON as "1.5s".
	Delay Duration `json:"delay,omitzero"`
	// Fraction of the timeout, above 0 to 1. Default 0.5.
	Fraction float64 `json:"fraction,omitempty"`
}

// Duration is a time.Duration that JSON shows as its String.
type Duration time.Duration

// MarshalText returns d as "1.5s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration takes.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Rule is a Fault for the next calls that it fits. Of several the first in the list is taken.
type Rule struct {
	// Function is a name. Empty: any.
	Function string `json:"function,omitempty"`
	// Type is an invocation type. Empty: any.
	Type InvocationType `json:"type,omitempty"`
	// Count is how many calls the rule is for; then it is gone. 0: all until it is replaced.
	Count int `json:"count,omitempty"`
	Fault
}

// Call is an Invoke as a fault hook sees it.
type Call struct {
	Function string
	Type     InvocationType
	Payload  []byte
}

func (f Fault) validate() error {
	switch f.Kind {
	case FaultThrottle, FaultDeny, FaultDrop, FaultDelay, FaultCut:
	case FaultError:
		if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
			return fmt.Errorf("status: %d is not within 400 and 599", f.Status)
		}
	case FaultDuplicate:
		if f.Times != 0 && f.Times < 2 {
			return fmt.Errorf("times: %d is below 2", f.Times)
		}
	case FaultKill:
		if f.Fraction < 0 || f.Fraction > 1 {
			return fmt.Errorf("fraction: %v is not within 0 and 1", f.Fraction)
		}
	default:
		return fmt.Errorf("fault: %q is none of throttle, error, deny, drop, duplicate, delay, kill, cut", f.Kind)
	}
	if f.Delay < 0 {
		return fmt.Errorf("delay: %v is below 0s", time.Duration(f.Delay))
	}
	return nil
}

func (f Fault) killAt() float64 {
	switch {
	case f.Kind != FaultKill:
		return 0
	case f.Fraction == 0:
		return 0.5
	}
	return f.Fraction
}

// deliveries is how often an Event is delivered.
func (f Fault) deliveries() int {
	switch f.Kind {
	case FaultDrop:
		return 0
	case FaultDuplicate:
		return max(f.Times, 2)
	default:
		return 1
	}
}

// faultScript is the rules that stand.
type faultScript struct {
	mu    sync.Mutex
	rules []Rule
}

// SetFaults replaces the rules. An error names the rule by its index, and changes nothing.
func (e *Emulator) SetFaults(rules ...Rule) error {
	var errs []error
	for i, r := range rules {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("lambda: rule %d: %w", i, err))
		}
		if r.Count < 0 {
			errs = append(errs, fmt.Errorf("lambda: rule %d: count: %d is below 0", i, r.Count))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.rules = slices.Clone(rules)
	return nil
}

// Faults returns the rules that still stand, with what is left of their counts.
func (e *Emulator) Faults() []Rule {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	return append([]Rule{}, e.faults.rules...)
}

// chooseFault asks the hook, then the rules.
func (e *Emulator) chooseFault(c Call) Fault {
	if e.config.Fault != nil {
		if f := e.config.Fault(c); f.Kind != FaultNone {
			return f
		}
	}
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	for i := range e.faults.rules {
		r := &e.faults.rules[i]
		if r.Function != "" && r.Function != c.Function || r.Type != "" && r.Type != c.Type {
			continue
		}
		f := r.Fault
		if r.Count--; r.Count == 0 {
			e.faults.rules = slices.Delete(e.faults.rules, i, i+1)
		} else if r.Count < 0 {
			r.Count = 0
		}
		return f
	}
	return Fault{}
}

// act does what of a fault comes before the function: waits and refusals.
func (e *Emulator) act(c *call, f *function, fault Fault) *apiError {
	if fault.Delay > 0 {
		timer := time.NewTimer(time.Duration(fault.Delay))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.r.Context().Done():
			panic(http.ErrAbortHandler) // nobody reads an answer
		case <-e.closed:
			return unavailable(errClosed)
		}
	}
	switch fault.Kind {
	case FaultThrottle:
		e.mu.Lock()
		f.stats.Throttles++
		e.mu.Unlock()
		if fault.Reason == "" {
			fault.Reason = reasonReserved
		}
		return throttled(fault.Reason)
	case FaultDeny:
		return accessDenied(e.caller(), c.action, f.arn)
	case FaultError:
		err := &apiError{status: fault.Status, code: fault.Code, message: "An error occurred and the request cannot be processed."}
		if err.status == 0 {
			err.status = http.StatusInternalServerError
		}
		if err.code == "" {
			err.code = "ServiceException"
		}
		return err
	default:
		return nil
	}
}

func (e *Emulator) putFaults(w http.ResponseWriter, r *http.Request) {
	var rules []Rule
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	d.DisallowUnknownFields()
	err := d.Decode(&rules)
	if err == nil {
		err = e.SetFaults(rules...)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, e.Faults())
}
