package manager

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reconcilerMetrics are what /metrics shows of the reconciler.
type reconcilerMetrics struct {
	ended      *prometheus.CounterVec
	failures   *prometheus.CounterVec
	adopted    prometheus.Counter
	reaped     prometheus.Counter
	duration   prometheus.Histogram
	tickErrors prometheus.Counter
}

// newReconcilerMetrics registers them with reg, which may be nil.
func newReconcilerMetrics(reg prometheus.Registerer, r *reconciler) *reconcilerMetrics {
	m := &reconcilerMetrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gmaps_spawns_ended_total", Help: "Workers that ended, by outcome.",
		}, []string{"outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gmaps_spawn_failures_total", Help: "Starts of workers that led to nothing and listings that failed, by cause.",
		}, []string{"cause"}),
		adopted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gmaps_spawns_adopted_total", Help: "Workers found running whose start was not recorded.",
		}),
		reaped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gmaps_spawns_reaped_total", Help: "Workers stopped or removed because no live spawn refers to them.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gmaps_reconcile_tick_seconds", Help: "Duration of a tick; its count is that of ticks.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		tickErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gmaps_reconcile_tick_errors_total", Help: "Ticks that failed in a part.",
		}),
	}
	breaker := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gmaps_spawn_breaker_state", Help: "0 closed, 1 half-open, 2 open.",
	}, func() float64 {
		s, _, _ := r.breaker.state(r.now())
		return float64(s)
	})
	if reg != nil {
		reg.MustRegister(m.ended, m.failures, m.adopted, m.reaped, m.duration, m.tickErrors, breaker)
	}
	return m
}

func (m *reconcilerMetrics) tick(d time.Duration, err error) {
	m.duration.Observe(d.Seconds())
	if err != nil {
		m.tickErrors.Inc()
	}
}
