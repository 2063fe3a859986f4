package spawner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// errBrokeOff is a connection to the engine that ended before the answer: nobody knows whether the call was carried out.
var errBrokeOff = errors.New("the Docker engine broke off")

// refused says what an error of the engine means and how it is mended; doing says what was tried: "create container x". What is an
// *Error already stays. An error of unknown outcome (ctx ended, the engine broke off) is no *Error. nil stays nil.
func (e *engine) refused(op, doing string, err error) error {
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, fs.ErrPermission): // of the socket itself; what the engine denies comes as an answer
		return &Error{
			Op: op, Reason: "access to the Docker socket " + e.address() + " is denied",
			Mend: "add this user to its group: sudo usermod -aG docker $USER, then log in again; in a container also mount it: -v /var/run/docker.sock:/var/run/docker.sock --group-add $(stat -c %g /var/run/docker.sock), and in a Swarm stack give the Manager user: \"0:0\"", Cause: "socket", Err: err,
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s: %w: %w", doing, errBrokeOff, err)
	case client.IsErrConnectionFailed(err):
		return &Error{
			Op: op, Reason: "no Docker engine answers at " + e.address(),
			Mend: "start it: sudo systemctl start docker, or Docker Desktop; in a container mount its socket: -v /var/run/docker.sock:/var/run/docker.sock; elsewhere: set DOCKER_HOST", Retry: true, Cause: "socket", Err: err,
		}
	}
	if short := shortOf(err); short != nil {
		return &Error{Op: op, Reason: doing + ": " + said(err), Mend: short.mend, Retry: short.retry, Cause: short.cause, Err: err}
	}
	return &Error{
		Op: op, Reason: doing + ": " + said(err), Cause: "other", Err: err,
		Retry: cerrdefs.IsInternal(err) || cerrdefs.IsUnavailable(err) || cerrdefs.IsConflict(err),
	}
}

// shortage is a resource that ran out.
type shortage struct {
	text, cause, mend string
	retry             bool
}

// shortages are what the engine tells only in words. The texts are those of Engine 20.10.24, heard from it; toomanyrequests is the
// code of a registry (OCI distribution specification 1.1, error codes).
var shortages = [...]shortage{
	{"no space left on device", "resources", "free some of the engine's disk: docker system prune", true},
	{"no available ipv4 addresses", "network", "remove unused containers, or give the network a wider --subnet", true},
	{"memory limit allowed is", "resources", "raise -spawner-memory", false},
	{"range of cpus is from", "resources", "lower -spawner-cpus to what the engine has", false},
	{"toomanyrequests", "throttled", "log in to the registry: docker login, or pull the image by hand", true},
}

// shortOf returns what has run out, nil if that was not it.
func shortOf(err error) *shortage {
	text := strings.ToLower(err.Error())
	for i := range shortages {
		if strings.Contains(text, shortages[i].text) {
			return &shortages[i]
		}
	}
	return nil
}

// pullRefused is the refusal of an image by its registry, or by the way to it.
func (e *engine) pullRefused(op, ref string, err error) error {
	refused := e.refused(op, "pull image "+ref, err)
	var known *Error
	if !errors.As(refused, &known) || known.Cause != "other" {
		return refused
	}
	known.Cause = "image"
	known.Mend = "docker pull " + ref + " shows more; a private registry wants docker login first"
	if ref == "gmaps-scraper:latest" {
		known.Reason, known.Mend = "image "+ref+" not found on this engine, nor pulled: "+said(err), "build it: make image"
	}
	return known
}

// said is the engine's own words without the client's preface.
func said(err error) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", "; "), "Error response from daemon: ")
}

// address is where the engine is looked for.
func (e *engine) address() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.TrimPrefix(e.host, "unix://")
}
