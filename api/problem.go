package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The types of the problems that a worker decides on. All others are told by their status.
const (
	// ProblemStaleFence (409): the lease has ended; nothing was written.
	ProblemStaleFence = "urn:gmaps-scraper:problem:stale-fence"
	// ProblemSpawnTaken (409): another worker has joined as this spawn.
	ProblemSpawnTaken = "urn:gmaps-scraper:problem:spawn-taken"
	// ProblemGone (410): the spawn has ended.
	ProblemGone = "urn:gmaps-scraper:problem:spawn-ended"
)

// MaxSubmitBytes bounds the JSON of one Batch before compression; the Manager answers 413 to more.
const MaxSubmitBytes = 32 << 20

const (
	maxProblemBytes = 64 << 10
	maxDetailBytes  = 300 // of an error that is no problem+json: often a proxy's page
)

// IsStale reports that the lease of the call has ended: nothing was written, and nothing ever will be under its fence.
func IsStale(err error) bool { return hasType(err, ProblemStaleFence) }

// IsSpawnTaken reports that another worker has joined as the same spawn.
func IsSpawnTaken(err error) bool { return hasType(err, ProblemSpawnTaken) }

// IsGone reports that the caller's spawn has ended: there is nothing left for it to do.
func IsGone(err error) bool { return hasStatus(err, http.StatusGone) }

// IsNotFound reports that what was asked for does not exist.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsTooLarge reports that the body was larger than the Manager takes: the same content may pass in smaller parts.
func IsTooLarge(err error) bool { return hasStatus(err, http.StatusRequestEntityTooLarge) }

// IsUnauthorized reports that the key, token or session was not accepted, or not for this.
func IsUnauthorized(err error) bool {
	return hasStatus(err, http.StatusUnauthorized) || hasStatus(err, http.StatusForbidden)
}

func hasType(err error, kind string) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && p.Type == kind
}

func hasStatus(err error, status int) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && p.Status == status
}

// Retryable reports that the same call may succeed later without anybody's help: the network failed, the call timed out, or the
// answer was a 5xx, 429 or 408. A cancelled call and a certificate that does not verify are not. A call whose context was ended with a
// cause of its own looks like one that the network ended: ask the context first.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		switch p.Status {
		case http.StatusNotImplemented:
			return false
		case http.StatusTooManyRequests, http.StatusRequestTimeout:
			return true
		default:
			return p.Status >= 500
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	_, failedCall := errors.AsType[*url.Error](err)
	_, failedNet := errors.AsType[net.Error](err)
	return failedCall || failedNet
}

// RetryAfter is the wish of the Manager for the next try; 0 if it named none.
func RetryAfter(err error) time.Duration {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.RetryAfter
	}
	return 0
}

// readProblem turns an answer of status 400 or more into a *Problem, whoever sent it.
func readProblem(res *http.Response) *Problem {
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxProblemBytes)) // part of a text is better than none
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == "application/problem+json" || kind == "application/json" {
		if json.Unmarshal(body, p) != nil {
			*p = Problem{}
		}
	}
	if p.Title == "" && p.Detail == "" && kind != "text/html" {
		p.Detail = strings.ToValidUTF8(strings.TrimSpace(string(body[:min(len(body), maxDetailBytes)])), "")
	}
	if p.Title == "" {
		p.Title = http.StatusText(res.StatusCode)
	}
	p.Status = res.StatusCode
	p.RetryAfter = parseRetryAfter(res.Header.Get("Retry-After"))
	return p
}

// parseRetryAfter reads both forms of RFC 9110, section 10.2.3.
func parseRetryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil {
		return time.Duration(max(0, n)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
