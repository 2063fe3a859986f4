package lambda

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// The event queue's rules (Developer Guide, asynchronous invocation, 2026).
const (
	defaultRetries  = 2
	defaultMaxAge   = 6 * time.Hour
	retryWait       = time.Minute // twice that before the second retry
	minThrottleWait = time.Second
	maxThrottleWait = 5 * time.Minute
)

// event is an Event that has been accepted.
type event struct {
	f         *function
	qualifier string
	id, trace string
	payload   []byte
	at        time.Time
	killAt    float64
}

// eventConfig is what PutFunctionEventInvokeConfig sets.
type eventConfig struct {
	FunctionArn              string
	LastModified             float64 // Unix seconds
	MaximumRetryAttempts     *int    `json:",omitempty"`
	MaximumEventAgeInSeconds *int    `json:",omitempty"`
	DestinationConfig        destinations
}

type destinations struct{ OnSuccess, OnFailure destination }

type destination struct {
	Destination string `json:",omitempty"`
}

func (e *Emulator) putEventConfig(c *call) *apiError {
	var r struct {
		MaximumRetryAttempts, MaximumEventAgeInSeconds *int
		DestinationConfig                              *destinations
	}
	if err := c.read(&r); err != nil {
		return err
	}
	if n := r.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 2) {
		return violated(*n, "maximumRetryAttempts", "Member must have value between 0 and 2")
	}
	if n := r.MaximumEventAgeInSeconds; n != nil && (*n < 60 || *n > 21600) {
		return violated(*n, "maximumEventAgeInSeconds", "Member must have value between 60 and 21600")
	}
	if d := r.DestinationConfig; d != nil {
		if d.OnSuccess.Destination != "" {
			return invalidParameter("the local Lambda emulator has no success destinations; leave OnSuccess out")
		}
		if arn := d.OnFailure.Destination; arn != "" && !strings.HasPrefix(arn, "arn:aws:") {
			return invalidParameter("The destination ARN %s is invalid.", arn)
		}
	}
	return e.with(c, http.StatusOK, func(f *function, _ *version, ref reference) (any, *apiError) {
		q := ref.qualifier
		if q == "" {
			q = latest
		}
		conf := &eventConfig{}
		if old := f.events[q]; old != nil && c.r.Method == http.MethodPost { // Update keeps what it does not name
			*conf = *old
		}
		conf.FunctionArn, conf.LastModified = f.arn+":"+q, float64(time.Now().UnixMilli())/1000
		if r.MaximumRetryAttempts != nil {
			conf.MaximumRetryAttempts = r.MaximumRetryAttempts
		}
		if r.MaximumEventAgeInSeconds != nil {
			conf.MaximumEventAgeInSeconds = r.MaximumEventAgeInSeconds
		}
		if r.DestinationConfig != nil {
			conf.DestinationConfig = *r.DestinationConfig
		}
		f.events[q] = conf
		return *conf, nil
	})
}

func (e *Emulator) getEventConfig(c *call) *apiError {
	return e.with(c, http.StatusOK, func(f *function, _ *version, ref reference) (any, *apiError) {
		conf := f.eventConfig(ref.qualifier)
		if conf == nil {
			return nil, notFound("The function %s doesn't have an EventInvokeConfig", qualified(f, ref.qualifier))
		}
		return *conf, nil
	})
}

func (e *Emulator) deleteEventConfig(c *call) *apiError {
	return e.with(c, http.StatusNoContent, func(f *function, _ *version, ref reference) (any, *apiError) {
		q := ref.qualifier
		if q == "" {
			q = latest
		}
		delete(f.events, q)
		return nil, nil
	})
}

// eventConfig is nil if none was put. Emulator.mu is held.
func (f *function) eventConfig(qualifier string) *eventConfig {
	if qualifier == "" {
		qualifier = latest
	}
	return f.events[qualifier]
}

// accept answers 202 and queues the event: as often as the fault says, or not at all.
func (e *Emulator) accept(c *call, ev *event, fault Fault) *apiError {
	for range fault.deliveries() {
		if !e.queue(ev) {
			return unavailable(errClosed)
		}
	}
	if fault.Kind == FaultCut {
		panic(http.ErrAbortHandler)
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// queue delivers ev in the background.
func (e *Emulator) queue(ev *event) bool {
	return e.goroutine(func() {
		e.waiting(ev.f, 1)
		defer e.waiting(ev.f, -1)
		e.deliver(ev)
	})
}

func (e *Emulator) waiting(f *function, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.stats.Queued += n
}

// policy is what holds for an event at the time of an attempt.
type policy struct {
	retries   int
	maxAge    time.Duration
	onFailure string
	shut      bool // no concurrency is reserved: events are given up at once
	deleted   bool
}

func (e *Emulator) policy(ev *event) policy {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := policy{retries: defaultRetries, maxAge: defaultMaxAge, deleted: ev.f.deleted}
	p.shut = ev.f.reserved != nil && *ev.f.reserved == 0
	if conf := ev.f.eventConfig(ev.qualifier); conf != nil {
		if conf.MaximumRetryAttempts != nil {
			p.retries = *conf.MaximumRetryAttempts
		}
		if conf.MaximumEventAgeInSeconds != nil {
			p.maxAge = time.Duration(*conf.MaximumEventAgeInSeconds) * time.Second
		}
		p.onFailure = conf.DestinationConfig.OnFailure.Destination
	}
	return p
}

// Conditions under which an event is given up.
const (
	retriesExhausted = "RetriesExhausted"
	ageExceeded      = "EventAgeExceeded"
)

// deliver runs the event until it succeeds or is given up.
func (e *Emulator) deliver(ev *event) {
	var last *outcome
	backoff := minThrottleWait
	for attempts := 0; ; {
		p := e.policy(ev)
		switch {
		case p.deleted:
			return
		case p.shut:
			e.giveUp(ev, p, retriesExhausted, attempts, last)
			return
		case time.Since(ev.at) > e.scaled(p.maxAge):
			e.giveUp(ev, p, ageExceeded, attempts, last)
			return
		}
		v, refused := e.acquire(ev.f, ev.qualifier)
		if refused != nil && refused.status == http.StatusNotFound {
			return
		}
		var out outcome
		var err error
		if refused == nil {
			inv := &invocation{id: ev.id, invokedARN: qualified(ev.f, ev.qualifier), traceID: ev.trace, payload: ev.payload, killAt: ev.killAt, answered: make(chan answer, 1)}
			out, err = e.run(v, inv)
		}
		if refused != nil || err != nil { // throttled, or no fault of the function: again until it is too old
			if !e.sleep(min(e.scaled(backoff), max(0, e.scaled(p.maxAge)-time.Since(ev.at)))) {
				return
			}
			backoff = min(2*backoff, maxThrottleWait)
			continue
		}
		if out.functionError == "" {
			return
		}
		attempts++
		last = &out
		if attempts > p.retries {
			e.giveUp(ev, p, retriesExhausted, attempts, last)
			return
		}
		if !e.sleep(e.scaled(time.Duration(attempts) * retryWait)) {
			return
		}
	}
}

// Record is an event that was given up, as AWS hands it to an on-failure destination.
type Record struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  RequestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *ResponseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
	// Destination is the ARN that it went to. Empty: none was configured. AWS does not send it.
	Destination string `json:"destination,omitempty"`
}

// RequestContext is which event was given up, and why.
type RequestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	// Condition is RetriesExhausted or EventAgeExceeded.
	Condition string `json:"condition"`
	// ApproximateInvokeCount is how often the function has run for it.
	ApproximateInvokeCount int `json:"approximateInvokeCount"`
}

// ResponseContext is how the last run ended. It is left out if there was none.
type ResponseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError"`
}

// giveUp records the event, and sends the record on if the destination is a function of this emulator.
func (e *Emulator) giveUp(ev *event, p policy, condition string, attempts int, last *outcome) {
	q := ev.qualifier
	if q == "" {
		q = latest
	}
	rec := Record{
		Version: "1.0", Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext: RequestContext{RequestID: ev.id, FunctionARN: ev.f.arn + ":" + q, Condition: condition, ApproximateInvokeCount: attempts},
		RequestPayload: ev.payload,
	}
	if last != nil {
		rec.ResponseContext = &ResponseContext{StatusCode: http.StatusOK, ExecutedVersion: last.version, FunctionError: last.functionError}
		if json.Valid(last.payload) {
			rec.ResponsePayload = last.payload
		}
	}
	body, err := json.Marshal(rec)
	if err != nil { // the payload was checked, but one of a record of a record of … may be nested too deep by now
		e.log.Warn("discarded event not recorded", "request", ev.id, "err", err)
		return
	}
	rec.Destination = p.onFailure
	e.mu.Lock()
	e.discarded = append(e.discarded, rec)
	ev.f.stats.Discarded++
	e.mu.Unlock()

	ref, bad := parseReference(p.onFailure, "")
	if bad != nil || !strings.HasPrefix(p.onFailure, "arn:aws:lambda:") {
		return
	}
	e.mu.Lock()
	to, missing := e.find(ref)
	e.mu.Unlock()
	if missing == nil {
		e.queue(&event{f: to, qualifier: ref.qualifier, id: newID(), trace: ev.trace, payload: body, at: time.Now()})
	}
}

// Discarded returns the events given up since the start, oldest first.
func (e *Emulator) Discarded() []Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Record{}, e.discarded...)
}
