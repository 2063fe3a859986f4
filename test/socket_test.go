package test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// socket is a Docker socket of our own before the real one. It passes everything on, or is gone, or keeps back or breaks off the answers to
// calls that make something: then the engine has done it and who called does not know.
type socket struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	mode   socketMode
	change chan struct{} // closed when mode changes
	server *http.Server
	served sync.WaitGroup
	spoilt int
}

// socketMode is how answers to calls that make something come.
type socketMode int

const (
	passes socketMode = iota
	hangs             // not until the mode changes, and then they are broken off
	cuts              // broken off at once
)

// newSocket starts to serve on a path that is short enough for a socket.
func newSocket(t *testing.T) *socket {
	t.Helper()
	dir, err := os.MkdirTemp("", "gmaps-socket-")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{t: t, path: filepath.Join(dir, "docker.sock"), change: make(chan struct{})}
	t.Cleanup(func() {
		s.vanish()
		os.RemoveAll(dir)
	})
	s.appear()
	return s
}

func (s *socket) host() string { return "unix://" + s.path }

// appear begins to serve.
func (s *socket) appear() {
	s.t.Helper()
	l, err := net.Listen("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	engine := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if engine == "" {
		engine = "/var/run/docker.sock"
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	proxy.ErrorLog = discardLog
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	s.server = &http.Server{ErrorLog: discardLog, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode, change := s.now()
		if mode == passes || !makes(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		// The engine goes on with a create whose caller has left.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		detached := r.Clone(context.WithoutCancel(r.Context()))
		detached.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(&nowhere{}, detached)
		s.spoil()
		if mode == hangs {
			select {
			case <-change:
			case <-r.Context().Done():
			}
		}
		panic(http.ErrAbortHandler)
	})}
	server := s.server
	s.served.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("docker socket: %v", err)
		}
	})
}

// vanish closes all connections and removes the socket.
func (s *socket) vanish() {
	s.set(passes)
	_ = s.server.Close()
	s.served.Wait()
}

func (s *socket) set(m socketMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
	close(s.change)
	s.change = make(chan struct{})
}

func (s *socket) now() (socketMode, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode, s.change
}

func (s *socket) spoil() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoilt++
}

// spoiled is how many answers did not come.
func (s *socket) spoiled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoilt
}

// makes reports whether a call makes or starts a container.
func makes(r *http.Request) bool {
	return r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/containers/create") || strings.HasSuffix(r.URL.Path, "/start"))
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header {
	if n.header == nil {
		n.header = http.Header{}
	}
	return n.header
}
func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (*nowhere) WriteHeader(int)             {}

// waitSpoiled waits until n more answers were kept back.
func (s *socket) waitSpoiled(n int) {
	s.t.Helper()
	from := s.spoiled()
	waitFor(s.t, "answers of the engine to be kept back", func() bool { return s.spoiled() >= from+n })
}
