package spawner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// refused is the one place where AWS's errors get words and a class.
func (l *Lambda) refused(ctx context.Context, op string, err error) error {
	e := &Error{Op: op, Cause: "other", Err: err}
	if said, ok := errors.AsType[smithy.APIError](err); ok {
		l.classify(e, said, err)
		return e
	}
	var (
		name   *net.DNSError
		region = fmt.Sprintf("is %s the right region? set -spawner-lambda-region", l.cfg.Region)
	)
	switch {
	case ctx.Err() != nil:
		e.Reason, e.Cause, e.Retry = fmt.Sprintf("%s did not answer in time", l.endpoint), "network", true
		e.Mend = "is there a way to it from here: a proxy, a VPC endpoint, a NAT? is the endpoint right?"
	case l.lacksCredentials(ctx):
		e.Reason, e.Cause = "no AWS credentials were found", "permission"
		e.Mend = "give this process a role, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case errors.As(err, &name) && name.IsNotFound:
		e.Reason, e.Mend, e.Cause = fmt.Sprintf("no host %s is known", name.Name), region, "network"
	default:
		e.Reason, e.Cause, e.Retry = fmt.Sprintf("%s does not answer: %v", l.endpoint, root(err)), "network", true
		e.Mend = "is the network up, is AWS_ENDPOINT_URL, if set, the right one?"
	}
	return e
}

// lacksCredentials asks again for what a call could not get: the SDK's error for it has no type.
func (l *Lambda) lacksCredentials(ctx context.Context) bool {
	if l.aws.Credentials == nil {
		return true
	}
	_, err := l.aws.Credentials.Retrieve(ctx)
	return err != nil
}

// root is the innermost error: what stands around it is the SDK's own.
func root(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// deniedAction finds in AWS's text which permission lacks.
var deniedAction = regexp.MustCompile(`\b(lambda:\w+)`)

// classify puts an answer of AWS into words. The codes are those of the API Reference, Invoke and Common Errors, 2026.
func (l *Lambda) classify(e *Error, said smithy.APIError, err error) {
	code, f := said.ErrorCode(), l.cfg.Function
	e.Reason = fmt.Sprintf("AWS answered %s: %s", code, said.ErrorMessage())
	switch code {
	case "ResourceNotFoundException":
		e.Reason, e.Cause = fmt.Sprintf("function %s was not found in region %s", f, l.cfg.Region), "name"
		e.Mend = "check -spawner-lambda-function (and its alias) and -spawner-lambda-region"
	case "AccessDeniedException", "AccessDenied":
		action := "lambda:InvokeFunction"
		if m := deniedAction.FindString(said.ErrorMessage()); m != "" {
			action = m
		}
		e.Reason, e.Cause = fmt.Sprintf("AWS denies %s on function %s to these credentials", action, f), "permission"
		e.Mend = fmt.Sprintf("allow %s on the function and function:* of its ARN in the Manager's IAM policy", action)
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
		e.Reason, e.Mend, e.Cause = "the AWS credentials have expired", "renew them (aws sso login), or give this process a role, which renews itself", "permission"
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException", "MissingAuthenticationToken":
		e.Reason, e.Mend, e.Cause = "AWS does not know these credentials", "check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and AWS_PROFILE; keys of aws-cn and aws-us-gov are their own", "permission"
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature":
		e.Reason, e.Mend, e.Cause = "AWS refused the signature", "check AWS_SECRET_ACCESS_KEY, and this machine's clock", "permission"
	case "TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded":
		e.Cause, e.Retry = "throttled", true
		e.Reason = "Lambda throttles: " + throttled(err)
		e.Mend = fmt.Sprintf("lower -spawner-lambda-max-conc (%d), or raise the function's or the account's concurrency", l.cfg.MaxConc)
	case "ResourceConflictException", "ResourceNotReadyException":
		e.Reason, e.Cause, e.Retry = fmt.Sprintf("function %s is not ready: %s", f, said.ErrorMessage()), "image", true
		e.Mend = "it is Pending after its creation or a change: wait a minute"
	case "InvalidRuntimeException", "InvalidZipFileException":
		e.Cause, e.Mend = "image", "the function's runtime must be provided.al2023, and its code that of make lambda"
	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException":
		e.Cause, e.Mend = "permission", "the function's environment cannot be decrypted: see the KMS key and the function's role"
	case "EC2ThrottledException", "EC2UnexpectedException", "ENILimitReachedException", "ENINotReadyException", "SubnetIPAddressLimitReachedException":
		e.Cause, e.Retry, e.Mend = "resources", true, "the function's VPC has no room: larger subnets, or a higher limit of network interfaces"
	case "EC2AccessDeniedException":
		e.Cause, e.Mend = "permission", "the function's role needs AWSLambdaVPCAccessExecutionRole"
	default:
		l.classifyStatus(e, err)
	}
}

// classifyStatus goes by the HTTP status: codes are added, and some differ between the API Reference and the service, as that of 413.
func (l *Lambda) classifyStatus(e *Error, err error) {
	res, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok {
		return
	}
	switch status := res.HTTPStatusCode(); {
	case status == http.StatusTooManyRequests:
		e.Cause, e.Retry = "throttled", true
		e.Mend = fmt.Sprintf("lower -spawner-lambda-max-conc (%d), or raise the function's or the account's concurrency", l.cfg.MaxConc)
	case status == http.StatusRequestEntityTooLarge:
		e.Mend = "the payload is far below every limit of Lambda: is it AWS that answers at " + l.endpoint + "?"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Cause, e.Mend = "permission", "check the credentials of this process, and its IAM policy"
	case status >= 500:
		e.Cause, e.Retry = "resources", true
	}
}

// throttled says which limit was met.
func throttled(err error) string {
	if t, ok := errors.AsType[*types.TooManyRequestsException](err); ok {
		switch {
		case strings.HasPrefix(string(t.Reason), "ReservedFunctionConcurrent"):
			return "the function's reserved concurrency is used up"
		case strings.HasPrefix(string(t.Reason), "ConcurrentInvocation"):
			return "the account's concurrency is used up"
		case t.Message != nil:
			return *t.Message
		}
	}
	return "too many requests"
}
