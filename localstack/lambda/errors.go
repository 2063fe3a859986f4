package lambda

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// apiError is an error as AWS puts it on the wire.
type apiError struct {
	status     int
	code       string // X-Amzn-ErrorType
	message    string
	reason     string // of a 429
	retryAfter int    // seconds; 0: no header
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func invalidParameter(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "InvalidParameterValueException", message: fmt.Sprintf(format, args...)}
}

// violated is how AWS words a member that is out of its bounds.
func violated(value any, member, constraint string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "ValidationException",
		message: fmt.Sprintf("1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, member, constraint)}
}

func notFound(format string, args ...any) *apiError {
	return &apiError{status: http.StatusNotFound, code: "ResourceNotFoundException", message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, code: "ResourceConflictException", message: fmt.Sprintf(format, args...)}
}

// tooLarge has the code that the service sends. The API Reference lists it as RequestTooLargeException, so decide by the status 413.
func tooLarge(format string, args ...any) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLargeException", message: fmt.Sprintf(format, args...)}
}

func throttled(reason string) *apiError {
	return &apiError{status: http.StatusTooManyRequests, code: "TooManyRequestsException", message: "Rate Exceeded.", reason: reason, retryAfter: 1}
}

func accessDenied(arn, action, resource string) *apiError {
	return &apiError{status: http.StatusForbidden, code: "AccessDeniedException", message: fmt.Sprintf(
		"User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action", arn, action, resource, action)}
}

// Reasons of a 429 (API Reference, TooManyRequestsException, 2026).
const (
	reasonReserved = "ReservedFunctionConcurrentInvocationLimitExceeded"
	reasonAccount  = "ConcurrentInvocationLimitExceeded"
)

// capitalised are the codes whose body says Message; all others say message. SDKs read the one that the API's model names.
var capitalised = map[string]bool{
	"ResourceNotFoundException": true, "ServiceException": true, "EC2ThrottledException": true, "EC2AccessDeniedException": true,
	"EC2UnexpectedException": true, "ENILimitReachedException": true, "ENINotReadyException": true, "InvalidRuntimeException": true,
	"InvalidZipFileException": true, "KMSAccessDeniedException": true, "SubnetIPAddressLimitReachedException": true,
	"AccessDeniedException": true, "RecursiveInvocationException": true, "ResourceInUseException": true,
}

func writeError(w http.ResponseWriter, e *apiError) {
	body := map[string]string{"Type": "User"}
	if e.status >= http.StatusInternalServerError {
		body["Type"] = "Service"
	}
	if e.reason != "" {
		body["Reason"] = e.reason
	}
	if capitalised[e.code] {
		body["Message"] = e.message
	} else {
		body["message"] = e.message
	}
	w.Header().Set("X-Amzn-ErrorType", e.code)
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	writeJSON(w, e.status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a type of ours
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left is no concern of ours
}
