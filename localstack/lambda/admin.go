package lambda

import (
	"cmp"
	"io"
	"net/http"
	"slices"
)

// Stats is what an Emulator knows of a function.
type Stats struct {
	FunctionArn string `json:"functionArn"`
	// Running is how many invocations run now; MaxRunning the most that ever did at once.
	Running    int `json:"running"`
	MaxRunning int `json:"maxRunning"`
	// Invocations that have ended, retries and duplicates too; Errors are those with a function error.
	Invocations int `json:"invocations"`
	Errors      int `json:"errors"`
	// Throttles counts refusals for lack of concurrency, those of the event queue and of faults too.
	Throttles int `json:"throttles"`
	// ColdStarts counts environments started.
	ColdStarts int `json:"coldStarts"`
	// Queued events have been accepted and are neither done nor given up; Discarded were given up.
	Queued    int `json:"queued"`
	Discarded int `json:"discarded"`
	// Environments are those that live now, in no order.
	Environments []Environment `json:"environments"`
}

// Environment is one execution environment.
type Environment struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// PID is the bootstrap's on this machine. 0: a container, or not started yet.
	PID int `json:"pid,omitempty"`
	// Frozen says that all its processes are stopped.
	Frozen bool `json:"frozen"`
	// Payload is that of the invocation that it runs; nil: it runs none. HTTP does not tell, since a payload may hold a token.
	Payload []byte `json:"-"`
}

// Function returns what is known of the function that a name or ARN names. The name alone finds it in any region.
func (e *Emulator) Function(name string) (Stats, bool) {
	e.mu.Lock()
	f := e.lookup(name)
	e.mu.Unlock()
	if f == nil {
		return Stats{}, false
	}
	return e.stats(f), true
}

// Log returns the newest part of a function's log, 1 MiB or so; empty if there is no such function.
func (e *Emulator) Log(name string) string {
	e.mu.Lock()
	f := e.lookup(name)
	e.mu.Unlock()
	if f == nil {
		return ""
	}
	return f.log.String()
}

// lookup is nil if there is no such function. mu is held.
func (e *Emulator) lookup(name string) *function {
	ref, err := parseReference(name, "")
	if err != nil {
		return nil
	}
	for key, f := range e.functions {
		if key.name == ref.name && (ref.region == "" || ref.region == key.region) {
			return f
		}
	}
	return nil
}

func (e *Emulator) stats(f *function) Stats {
	var list []*environment
	e.mu.Lock()
	s := f.stats
	for env := range e.environments {
		if env.v.function == f {
			list = append(list, env)
		}
	}
	e.mu.Unlock()
	s.Environments = []Environment{}
	for _, env := range list {
		out := Environment{ID: env.id, Version: env.v.number}
		env.mu.Lock()
		box := env.box
		out.Payload = env.payload
		env.mu.Unlock()
		if box != nil {
			out.PID, out.Frozen = box.pid(), box.frozen()
		}
		s.Environments = append(s.Environments, out)
	}
	return s
}

func (e *Emulator) adminRoutes() {
	answer := func(pattern string, h func(r *http.Request) (any, bool)) {
		e.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, ok := h(r)
			if !ok {
				writeJSON(w, http.StatusNotFound, map[string]string{"error": "no function " + r.PathValue("name")})
				return
			}
			writeJSON(w, http.StatusOK, v)
		})
	}
	answer("GET /_emulator/health", func(*http.Request) (any, bool) { return map[string]string{"status": "ok"}, true })
	answer("GET /_emulator/functions", func(*http.Request) (any, bool) {
		e.mu.Lock()
		var all []*function
		for _, f := range e.functions {
			all = append(all, f)
		}
		e.mu.Unlock()
		list := []Stats{}
		for _, f := range all {
			list = append(list, e.stats(f))
		}
		slices.SortFunc(list, func(a, b Stats) int { return cmp.Compare(a.FunctionArn, b.FunctionArn) })
		return list, true
	})
	answer("GET /_emulator/functions/{name}", func(r *http.Request) (any, bool) { return e.Function(r.PathValue("name")) })
	answer("GET /_emulator/discarded", func(*http.Request) (any, bool) { return e.Discarded(), true })
	answer("GET /_emulator/faults", func(*http.Request) (any, bool) { return e.Faults(), true })
	e.mux.HandleFunc("PUT /_emulator/faults", e.putFaults)
	e.mux.HandleFunc("DELETE /_emulator/faults", func(w http.ResponseWriter, _ *http.Request) {
		if err := e.SetFaults(); err != nil {
			panic(err) // no rules are valid
		}
		w.WriteHeader(http.StatusNoContent)
	})
	e.mux.HandleFunc("GET /_emulator/logs/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, e.Log(r.PathValue("name")))
	})
}
