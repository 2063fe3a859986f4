package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// pingTime bounds the store's answer to a readiness probe.
const pingTime = time.Second

// maxTickAge is how long ago the reconciler's last tick may be. Creates on a slow backend make a tick long.
const maxTickAge = 2 * time.Minute

// readiness is the body of /readyz.
type readiness struct {
	Ready bool            `json:"ready"`
	Parts map[string]part `json:"parts"`
}

// part is how one part of the Manager is.
type part struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// ready tells a balancer whether requests are welcome here.
func (m *Manager) ready(w http.ResponseWriter, r *http.Request) {
	out := readiness{Parts: map[string]part{"store": m.storeHealth(r.Context()), "reconciler": m.reconcilerHealth(time.Now())}}
	out.Ready = true
	for _, p := range out.Parts {
		out.Ready = out.Ready && p.OK
	}
	w.Header().Set("Content-Type", "application/json")
	if !out.Ready {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (m *Manager) storeHealth(ctx context.Context) part {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	if err := m.store.Ping(ctx); err != nil {
		m.log.WarnContext(ctx, "store not ready", "err", err)
		return part{false, "does not answer"} // the path is open to all: no word of where the store is
	}
	return part{true, "answers"}
}

func (m *Manager) reconcilerHealth(now time.Time) part {
	if m.isStopping() {
		return part{false, "stops"}
	}
	last := m.rec.Status().LastTick
	if last.IsZero() {
		return part{false, "has not ticked yet"}
	}
	age := now.Sub(last)
	return part{age <= maxTickAge, fmt.Sprintf("last tick %s ago", age.Round(time.Millisecond))}
}
