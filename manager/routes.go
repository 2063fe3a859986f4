package manager

import (
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"gmaps-scraper/api"
	"gmaps-scraper/manager/web"
)

// register adds all operations of the API.
func (m *Manager) register(a huma.API) {
	m.registerJobs(a)
	m.registerLists(a)
	m.registerResults(a)
	m.registerStream(a)
	m.registerWorker(a)
}

// routes puts everything that is served behind one chain: observe, protect, authenticate, route.
func (m *Manager) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	a := newAPI(mux)
	m.register(a)
	if err := routesOpenAPI(mux, a); err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /healthz", static("text/plain; charset=utf-8", []byte("ok\n")))
	mux.HandleFunc("GET /readyz", m.ready)
	mux.Handle("GET /metrics", m.metrics.handler())
	mux.HandleFunc("POST /login", m.auth.logIn)
	mux.HandleFunc("POST /logout", m.auth.logOut)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newFault(http.StatusNotFound, "", "there is no such path"))
	})
	chain := m.observe(protect(m.auth.check(matched(mux))))

	client, err := api.NewClient("http://manager", m.auth.internal, api.InProcess(chain))
	if err != nil {
		return nil, err
	}
	pages, err := web.New(web.Config{API: client, Version: m.cfg.Version, Open: m.cfg.Open, Backend: m.backend()})
	if err != nil {
		return nil, err
	}
	mux.Handle("/", pages)
	return chain, nil
}

// exchange is what is known of a request while it is served.
type exchange struct {
	id string
	// route is the pattern that it matched: of a bounded number, unlike paths.
	route string
}

type exchangeKey struct{}

// requestID names a request in logs and in the header X-Request-Id of its answer.
func requestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id
	}
	return ""
}

// matched notes the route for observe, which sees an earlier copy of the request.
func matched(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
			_, x.route = mux.Handler(r)
		}
		mux.ServeHTTP(w, r)
	})
}

// observe names, times and logs requests, and survives their panics.
func (m *Manager) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		x := &exchange{id: randomText(9), route: "none"}
		r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		w.Header().Set("X-Request-Id", x.id)
		// The deadline of the request before would hold on: the server clears it only if it has one of its own.
		_ = http.NewResponseController(w).SetWriteDeadline(start.Add(answerTime))
		rec := &recorder{ResponseWriter: w}
		defer func() {
			v := recover()
			if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
				m.metrics.panics.Inc()
				m.log.ErrorContext(r.Context(), "handler panicked", "request", x.id, "method", r.Method, "route", x.route, "panic", v, "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(rec, newFault(http.StatusInternalServerError, "", "an error of ours; the log has it under the request's id"))
					v = nil
				}
			}
			took := time.Since(start)
			m.metrics.requests.WithLabelValues(x.route, strconv.Itoa(rec.code())).Observe(took.Seconds())
			m.log.DebugContext(r.Context(), "request served", "request", x.id, "method", r.Method, "path", r.URL.Path, "status", rec.code(), "bytes", rec.written, "took", took)
			if v != nil {
				panic(http.ErrAbortHandler) // an answer that was begun breaks off, so that nobody takes it for whole
			}
		}()
		next.ServeHTTP(rec, r)
	})
}
