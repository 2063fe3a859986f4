package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-lambda-go/lambda/messages"
)

// Types of the errors that an invocation may end with: what a caller reads as errorType.
const (
	badPayload         = "BadPayload"
	badSetting         = "BadSetting"
	secretUnavailable  = "SecretUnavailable"
	managerRefused     = "ManagerRefused"
	managerUnreachable = "ManagerUnreachable"
	workerFailed       = "WorkerFailed"
)

// failf is an error with a type. It names fields and variables, never their values.
func failf(kind, format string, args ...any) error {
	return messages.InvokeResponse_Error{Type: kind, Message: fmt.Sprintf(format, args...)}
}

// payload is what the Manager sends. Unknown fields are ignored.
type payload struct {
	JobID       string `json:"job_id"`
	Priority    int    `json:"priority"`
	ManagerURL  string `json:"manager_url"`
	RabbitMQURL string `json:"rabbitmq_url"` // a worker that goes when there is no more work has no use for the bell
	RedisAddr   string `json:"redis_addr"`
	Concurrency int    `json:"concurrency"`
	SpawnID     string `json:"spawn_id"`
	WorkerToken string `json:"worker_token"`
}

const defaultConcurrency = 4

func parsePayload(b []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(b, &p); err != nil {
		if field, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && field.Field != "" {
			return p, failf(badPayload, "%s: a JSON %s cannot be one", field.Field, field.Value)
		}
		return p, failf(badPayload, "the payload is no JSON object")
	}
	for _, f := range []struct{ name, value string }{
		{"job_id", p.JobID}, {"manager_url", p.ManagerURL}, {"spawn_id", p.SpawnID}, {"worker_token", p.WorkerToken},
	} {
		if f.value == "" {
			return p, failf(badPayload, "%s: is missing", f.name)
		}
	}
	switch {
	case p.Priority < 0 || p.Priority > 10:
		return p, failf(badPayload, "priority: is not between 0 and 10")
	case p.Concurrency < 0 || p.Concurrency > 1024:
		return p, failf(badPayload, "concurrency: is not between 0 and 1024")
	}
	if p.Concurrency == 0 {
		p.Concurrency = defaultConcurrency
	}
	return p, nil
}

// checkURL is of the Manager's URL once it is known.
func checkURL(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return failf(badPayload, "%s: is no http or https URL", field)
	}
	return nil
}
