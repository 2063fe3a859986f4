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

// maxTickAge is how long ago the reconciler's last tick may be, beyond its interval. Creates on a slow backend make a tick long.
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
	// Optional: the Manager is ready without it.
	Optional bool `json:"optional,omitempty"`
}

// ready tells a balancer whether requests are welcome here.
func (m *Manager) ready(w http.ResponseWriter, r *http.Request) {
	out := readiness{Parts: map[string]part{"store": m.storeHealth(r.Context()), "reconciler": m.reconcilerHealth(time.Now())}}
	for _, p := range m.cfg.Parts {
		ok, detail := p.Health()
		out.Parts[p.Name] = part{ok, detail, true}
	}
	out.Ready = true
	for _, p := range out.Parts {
		out.Ready = out.Ready && (p.OK || p.Optional)
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
		return part{OK: false, Detail: "does not answer"} // the path is open to all: no word of where the store is
	}
	return part{OK: true, Detail: "answers"}
}

func (m *Manager) reconcilerHealth(now time.Time) part {
	if m.isStopping() {
		return part{OK: false, Detail: "stops"}
	}
	status := m.rec.Status()
	if status.Following {
		return part{OK: true, Detail: "another Manager reconciles"}
	}
	last := status.LastTick
	if last.IsZero() {
		return part{OK: false, Detail: "has not ticked yet"}
	}
	age := now.Sub(last)
	return part{OK: age <= maxTickAge+m.cfg.SweepInterval || m.cfg.NoSweep, Detail: fmt.Sprintf("last tick %s ago", age.Round(time.Millisecond))}
}
