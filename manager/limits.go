package manager

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Bounds of request bodies in bytes, before compression. That of a submit is api.MaxSubmitBytes.
const (
	smallBody  = 1 << 20
	createBody = 32 << 20
)

// How long a handler may take, its store calls included. Streams have no such bound: each of their steps has.
const (
	handlerTime = 30 * time.Second
	pollTime    = maxWait + 15*time.Second
	// wholeJobTime is for what touches all tasks of a job: to store, end or open a million takes its time.
	wholeJobTime = 2 * time.Minute
	bodyTime     = time.Minute
	// answerTime is how long a client may take to read an answer. Streams extend it while data flows.
	answerTime = 2 * time.Minute
)

// Keys of an operation's metadata.
const (
	metaTime = "time" // time.Duration; without it the operation is a stream
	metaBody = "body" // int64, the bound of its body
)

// readBody reads an operation's body, gzip or plain, within its bounds of size and time. A bomb ends at the bound of what it unpacks to.
func readBody(a huma.API) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		op := c.Operation()
		limit, ok := op.Metadata[metaBody].(int64)
		if op.RequestBody == nil || !ok {
			next(c)
			return
		}
		r, w := humago.Unwrap(c)
		_ = c.SetReadDeadline(time.Now().Add(bodyTime))
		if r.ContentLength > limit {
			_, _ = http.MaxBytesReader(bottom(w), r.Body, 0).Read(make([]byte, 1)) // tells the server
			refuse(a, c, &http.MaxBytesError{Limit: limit})
			return
		}
		body, err := unpack(http.MaxBytesReader(bottom(w), r.Body, limit), r.ContentLength, r.Header.Get("Content-Encoding"), limit)
		if err != nil {
			refuse(a, c, err)
			return
		}
		// A deadline that passes while the handler runs would look as if the client had gone.
		_ = c.SetReadDeadline(time.Time{})
		next(bodyContext{c, bytes.NewReader(body)})
	}
}

// bottom is the server's own writer. Only through it does a MaxBytesReader tell the server to close the connection slowly enough
// that a client which still sends sees the answer, and no reset instead.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// plainContext lets bodyContext embed an interface that has a method of the same name.
type plainContext huma.Context

// bodyContext is a Context whose body has been read.
type bodyContext struct {
	plainContext
	body io.Reader
}

// BodyReader returns the body that was read.
func (c bodyContext) BodyReader() io.Reader { return c.body }

// Unwrap is for adapters, which look for their own context.
func (c bodyContext) Unwrap() huma.Context { return c.plainContext }

// unpack reads a body of size bytes, as far as that is known.
func unpack(body io.Reader, size int64, encoding string, limit int64) ([]byte, error) {
	const (
		usualRatio = 6       // of gzipped places
		mostAhead  = 1 << 20 // that is made room for before it has come
	)
	switch encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		body = z
		size *= usualRatio
	default:
		return nil, newFault(http.StatusUnsupportedMediaType, "", "content encodings other than gzip are not understood")
	}
	b := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+min(max(size, 0), limit, mostAhead)))
	n, err := b.ReadFrom(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read: %w", err)
	case n > limit:
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return b.Bytes(), nil
}

// refuse answers a body that could not be read.
func refuse(a huma.API, c huma.Context, err error) {
	var (
		own   *fault
		large *http.MaxBytesError
		slow  net.Error
	)
	switch {
	case errors.As(err, &own), errors.As(err, &large):
		f := problem(err)
		_ = huma.WriteErr(a, c, f.Status, f.Detail)
	case errors.As(err, &slow) && slow.Timeout():
		_ = huma.WriteErr(a, c, http.StatusRequestTimeout, "the request body came too slowly")
	default:
		_ = huma.WriteErr(a, c, http.StatusBadRequest, "the request body cannot be read to its end")
	}
}

// limitTime gives an operation its time.
func limitTime(c huma.Context, next func(huma.Context)) {
	d, ok := c.Operation().Metadata[metaTime].(time.Duration)
	if !ok {
		next(c)
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), d)
	defer cancel()
	next(huma.WithContext(c, ctx))
}

// steadyWriter gives every write its own deadline: a stream may last for hours, but not a client that does not read.
type steadyWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func newSteadyWriter(w http.ResponseWriter) *steadyWriter {
	return &steadyWriter{w, http.NewResponseController(w)}
}

const writeTime = 30 * time.Second

// Write writes within writeTime.
func (s *steadyWriter) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime))
	return s.w.Write(p)
}

// Flush sends what is buffered.
func (s *steadyWriter) Flush() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime))
	return s.control.Flush()
}
