package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func send(t *testing.T, ctx context.Context, h http.HandlerFunc, method, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://manager/x?y=1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return InProcess(h).RoundTrip(req)
}

func TestInProcessStreams(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	res, err := send(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Body", string(body))
		w.WriteHeader(http.StatusAccepted)
		w.Header().Set("X-Late", "1")
		fmt.Fprint(w, "one")
		<-release // the client has the first part before the handler goes on
		fmt.Fprint(w, "two")
	}, http.MethodPost, "hello")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	part := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, part); err != nil || string(part) != "one" {
		t.Fatalf("got %q, %v", part, err)
	}
	close(release)
	rest, err := io.ReadAll(res.Body)
	if err != nil || string(rest) != "two" {
		t.Fatalf("got %q, %v", rest, err)
	}
	if res.StatusCode != http.StatusAccepted || res.Header.Get("X-Body") != "hello" || res.Header.Get("X-Late") != "" {
		t.Errorf("head is %d %v", res.StatusCode, res.Header)
	}
}

func TestInProcessEndsTheHandlerWithTheRequest(t *testing.T) {
	t.Parallel()
	errWhy := errors.New("why")
	ended := make(chan error, 1)
	wait := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	}
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		res, err := send(t, ctx, wait, http.MethodGet, "")
		if err != nil {
			t.Fatal(err)
		}
		cancel(errWhy)
		if _, err := io.ReadAll(res.Body); !errors.Is(err, errWhy) {
			t.Errorf("the body ended in %v", err)
		}
		if got := <-ended; !errors.Is(got, context.Canceled) {
			t.Errorf("the handler saw %v", got)
		}
		res.Body.Close()
	})
	t.Run("by closing the body", func(t *testing.T) {
		res, err := send(t, t.Context(), wait, http.MethodGet, "")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		<-ended
	})
	t.Run("before the head", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := send(t, ctx, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}, http.MethodGet, "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestInProcessPanicIsAnError(t *testing.T) {
	t.Parallel()
	_, err := send(t, t.Context(), func(http.ResponseWriter, *http.Request) { panic("boom") }, http.MethodGet, "")
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

func TestInProcessHandlerThatWritesNothingAnswersOK(t *testing.T) {
	t.Parallel()
	res, err := send(t, t.Context(), func(_ http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/x?y=1" || r.Body == nil || r.RemoteAddr == "" {
			t.Errorf("request is %+v", r)
		}
	}, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || len(body) > 0 || err != nil {
		t.Errorf("got %d %q %v", res.StatusCode, body, err)
	}
}
