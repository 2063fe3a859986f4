package main

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
)

// reference is how a value names a secret instead of being one, as in ECS task definitions (ECS Developer Guide, "Pass Secrets Manager
// secrets through Amazon ECS environment variables", 2026): arn:aws:secretsmanager:region:account:secret:name[:json-key[:stage[:version]]].
var reference = regexp.MustCompile(`^(arn:aws(?:-cn|-us-gov)?:secretsmanager:([^:]+):[^:]+:secret:[^:]+)(?::([^:]*)(?::([^:]*)(?::([^:]*))?)?)?$`)

func isReference(value string) bool {
	return strings.HasPrefix(value, "arn:aws:secretsmanager:") || strings.HasPrefix(value, "arn:aws-cn:secretsmanager:") ||
		strings.HasPrefix(value, "arn:aws-us-gov:secretsmanager:")
}

// secrets resolves references, and remembers what they stand for as long as this environment lives.
type secrets struct {
	mu     sync.Mutex
	client *secretsmanager.Client
	known  map[string]string
}

// resolve returns value, or what it refers to. name is of the field or variable, for the error.
func (s *secrets) resolve(ctx context.Context, name, value string) (string, error) {
	if !isReference(value) {
		return value, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.known[value]; ok {
		return v, nil
	}
	parts := reference.FindStringSubmatch(value)
	if parts == nil {
		return "", failf(secretUnavailable, "%s: is no reference of the form arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON-KEY[:STAGE[:VERSION]]]", name)
	}
	text, err := s.fetch(ctx, parts)
	if err != nil {
		return "", failf(secretUnavailable, "%s: secret %s: %s", name, parts[1], plainReason(err))
	}
	if key := parts[3]; key != "" {
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &object) != nil {
			return "", failf(secretUnavailable, "%s: secret %s is no JSON object, so that it has no key", name, parts[1])
		}
		raw, ok := object[key]
		if !ok {
			return "", failf(secretUnavailable, "%s: secret %s has no key %s", name, parts[1], key)
		}
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw) // a number
		}
	}
	if s.known == nil {
		s.known = make(map[string]string)
	}
	s.known[value] = text
	return text, nil
}

func (s *secrets) fetch(ctx context.Context, parts []string) (string, error) {
	if s.client == nil {
		loaded, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return "", err
		}
		s.client = secretsmanager.NewFromConfig(loaded)
	}
	in := &secretsmanager.GetSecretValueInput{SecretId: &parts[1]}
	if parts[4] != "" {
		in.VersionStage = &parts[4]
	}
	if parts[5] != "" {
		in.VersionId = &parts[5]
	}
	out, err := s.client.GetSecretValue(ctx, in, func(o *secretsmanager.Options) { o.Region = parts[2] })
	if err != nil {
		return "", err
	}
	if out.SecretString == nil {
		return "", errors.New("it is binary")
	}
	return *out.SecretString, nil
}

// plainReason is what went wrong, with the mend.
func plainReason(err error) string {
	said, ok := errors.AsType[smithy.APIError](err)
	switch {
	case !ok:
		return "Secrets Manager did not answer; a function in a VPC needs a NAT or an endpoint for it"
	case strings.HasPrefix(said.ErrorCode(), "AccessDenied"):
		return "access denied; allow secretsmanager:GetSecretValue (and kms:Decrypt of its key) to the function's role"
	case said.ErrorCode() == "ResourceNotFoundException":
		return "not found"
	}
	return said.ErrorCode()
}

// forget drops what was resolved: a secret may have been rotated.
func (s *secrets) forget() (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	some = len(s.known) > 0
	s.known = nil
	return some
}
