package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
)

// InProcess returns a RoundTripper that calls h in memory: no port, no serialisation of the connection, the answer streamed as h
// writes it. The handler's context ends with the request's, when the answer's body is closed, and when h returns, as on a server.
// A panic of h becomes the error of the call, or of the body when its head was sent. h sees 127.0.0.1:0 as the remote address.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

var errAnswerClosed = errors.New("answer closed by the client")

// RoundTrip is http.RoundTripper's.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	// The handler learns that its client has gone, as on a server, and not why.
	ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
	unlink := context.AfterFunc(req.Context(), cancel)
	body, sink := io.Pipe()
	w := &pipeWriter{header: http.Header{}, sink: sink, ready: make(chan struct{}), bodyless: req.Method == http.MethodHead}
	go t.serve(ctx, func() { unlink(); cancel() }, w, req)

	select {
	case <-w.ready:
	case <-req.Context().Done():
		cause := context.Cause(req.Context())
		_ = body.CloseWithError(cause)
		return nil, cause
	}
	if w.failed != nil {
		return nil, w.failed
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: length, Request: req,
		Body: &pipeBody{body, cancel},
	}, nil
}

// serve runs the handler and settles the answer.
func (t inProcess) serve(ctx context.Context, end func(), w *pipeWriter, req *http.Request) {
	// A reader must not wait for a handler that ignores its context.
	gone := func() error {
		if req.Context().Err() != nil {
			return context.Cause(req.Context())
		}
		return errAnswerClosed
	}
	unlink := context.AfterFunc(ctx, func() { _ = w.sink.CloseWithError(gone()) })
	defer func() {
		if v := recover(); v != nil {
			w.fail(fmt.Errorf("handler panicked: %v\n%s", v, debug.Stack()))
		}
		if ctx.Err() != nil {
			w.fail(gone()) // what the handler has not said by now would be no answer of its own
		}
		unlink()
		w.finish()
		end()
	}()
	r := req.Clone(ctx)
	r.RequestURI = req.URL.RequestURI()
	r.RemoteAddr = "127.0.0.1:0"
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	t.handler.ServeHTTP(w, r)
}

// pipeWriter is the http.ResponseWriter of one in-process call.
type pipeWriter struct {
	header http.Header
	sink   *io.PipeWriter
	ready  chan struct{} // closed when the fields below are settled
	once   sync.Once

	sent     http.Header // as it was when the head was sent
	status   int
	bodyless bool
	failed   error
}

var _ http.Flusher = (*pipeWriter)(nil)

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if status < 200 {
		return // informational: no client of ours waits for it
	}
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		w.bodyless = w.bodyless || status == http.StatusNoContent || status == http.StatusNotModified
		close(w.ready)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.bodyless {
		return len(p), nil
	}
	return w.sink.Write(p)
}

// Flush sends the head; the body is never buffered.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// fail ends the answer with err: as that of the call if the head was not sent.
func (w *pipeWriter) fail(err error) {
	w.once.Do(func() {
		w.failed = err
		close(w.ready)
	})
	_ = w.sink.CloseWithError(err)
}

func (w *pipeWriter) finish() {
	w.WriteHeader(http.StatusOK)
	_ = w.sink.Close() // keeps an earlier error
}

// pipeBody ends the handler when it is closed.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *pipeBody) Close() error {
	b.cancel()
	return b.CloseWithError(errAnswerClosed)
}
