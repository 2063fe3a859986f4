package manager

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gmaps-scraper/store"
)

// scrapeTime bounds what a scrape asks of the store.
const scrapeTime = 5 * time.Second

// metrics are what /metrics shows, each Manager with a registry of its own.
type metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.HistogramVec
	panics     prometheus.Counter
	results    prometheus.Counter
	duplicates prometheus.Counter
	firstByte  *prometheus.HistogramVec
}

func newMetrics(s store.Store, parts []Part) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gmaps_http_request_duration_seconds", Help: "Time to serve a request; long polls and streams last as they must.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 5, 30, 120},
		}, []string{"route", "code"}),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "gmaps_http_panics_total", Help: "Handlers that panicked."}),
		results:    prometheus.NewCounter(prometheus.CounterOpts{Name: "gmaps_results_total", Help: "Places acknowledged by this Manager; a repeated submit counts again."}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "gmaps_duplicates_total", Help: "Places handed in that their job had."}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gmaps_spawn_first_byte_seconds", Help: "Time from the spawn's row to the worker's first word.",
			Buckets: []float64{.1, .25, .5, 1, 2, 4, 8, 16, 32, 64, 128},
		}, []string{"backend"}),
	}
	m.registry.MustRegister(m.requests, m.panics, m.results, m.duplicates, m.firstByte, newStoreCollector(s),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, p := range parts {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gmaps_part_up", Help: "1 if a server that the Manager can do without is there.", ConstLabels: prometheus.Labels{"part": p.Name},
		}, func() float64 {
			if ok, _ := p.Health(); ok {
				return 1
			}
			return 0
		}))
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: 4, Timeout: 2 * scrapeTime, ErrorHandling: promhttp.ContinueOnError,
	})
}

// storeCollector asks the store at each scrape: what is in there is true for all Managers, and a count of ours would not be.
type storeCollector struct {
	store                                    store.Store
	up, jobs, tasks, spawns, stored, leases  *prometheus.Desc
	leaseAges, spawnEnds, oldestOpen, elapse *prometheus.Desc
}

func newStoreCollector(s store.Store) *storeCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &storeCollector{
		store:      s,
		up:         desc("gmaps_store_up", "1 if the store answered this scrape."),
		elapse:     desc("gmaps_store_stats_seconds", "Time that the store took to answer this scrape."),
		jobs:       desc("gmaps_jobs", "Jobs by state.", "state"),
		tasks:      desc("gmaps_tasks", "Tasks by state.", "state"),
		spawns:     desc("gmaps_spawns", "Spawns by state.", "state"),
		spawnEnds:  desc("gmaps_spawn_ends", "Ended spawns that did not succeed, by outcome.", "outcome"),
		stored:     desc("gmaps_results_stored", "Places in the store."),
		leases:     desc("gmaps_leases_live", "Leases that have not ended."),
		leaseAges:  desc("gmaps_lease_age_seconds", "Ages of the leases that have not ended."),
		oldestOpen: desc("gmaps_oldest_waiting_job_seconds", "Age of the oldest job with open tasks and no worker; 0: there is none."),
	}
}

// Describe is prometheus.Collector's.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.elapse, c.jobs, c.tasks, c.spawns, c.spawnEnds, c.stored, c.leases, c.leaseAges, c.oldestOpen} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime) // the interface hands no context in
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	start := time.Now()
	s, err := c.store.Stats(ctx)
	if err != nil {
		gauge(c.up, 0)
		return
	}
	gauge(c.up, 1)
	gauge(c.elapse, time.Since(start).Seconds())
	for state, n := range s.Jobs {
		gauge(c.jobs, float64(n), string(state))
	}
	for state, n := range s.Tasks {
		gauge(c.tasks, float64(n), string(state))
	}
	for state, n := range s.Spawns {
		gauge(c.spawns, float64(n), string(state))
	}
	for outcome, n := range s.SpawnErrors {
		gauge(c.spawnEnds, float64(n), string(outcome))
	}
	gauge(c.stored, float64(s.Results))
	gauge(c.leases, float64(s.LiveLeases))
	waits := 0.0
	if !s.OldestOpen.IsZero() {
		waits = max(0, time.Since(s.OldestOpen).Seconds())
	}
	gauge(c.oldestOpen, waits)
	ch <- leaseAges(c.leaseAges, s.LeaseAges)
}

func leaseAges(d *prometheus.Desc, ages []time.Duration) prometheus.Metric {
	buckets := map[float64]uint64{1: 0, 5: 0, 10: 0, 20: 0, 30: 0, 60: 0, 300: 0, 1800: 0}
	sum := 0.0
	for _, age := range ages {
		s := age.Seconds()
		sum += s
		for le := range buckets {
			if s <= le {
				buckets[le]++
			}
		}
	}
	return prometheus.MustNewConstHistogram(d, uint64(len(ages)), sum, buckets)
}
