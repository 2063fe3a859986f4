package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// Faults of the servers that the Manager works with: each is struck while jobs are submitted and run, and healed. What must hold meanwhile
// is said by each test; afterwards the ledger balances, without a restart of the Manager.

// strike is something done to a server, and how it is undone.
type strike struct {
	name     string
	do, undo func()
}

// health is what /readyz says.
type health struct {
	status int
	Parts  map[string]struct {
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	} `json:"parts"`
}

// health asks the Manager how it is. status is 0 if it does not answer.
func (w *world) health() health {
	res, err := http.Get("http://" + w.addr + "/readyz")
	if err != nil {
		return health{}
	}
	defer res.Body.Close()
	h := health{status: res.StatusCode}
	if err := json.NewDecoder(res.Body).Decode(&h); err != nil {
		w.t.Errorf("/readyz: %v", err)
	}
	return h
}

// waitPart waits until a server that the Manager can do without is shown as ok, or as not ok. For its sake the Manager is never unready.
func (w *world) waitPart(name string, ok bool) {
	w.t.Helper()
	waitFor(w.t, fmt.Sprintf("/readyz to show %s with ok=%v", name, ok), func() bool {
		h := w.health()
		p, shown := h.Parts[name]
		if h.status == 0 {
			return false
		}
		if wanted := h.Parts["store"].OK && h.Parts["reconciler"].OK; !shown || wanted != (h.status == http.StatusOK) {
			w.t.Fatalf("/readyz answers %d and %v: want a part %s, and readiness to depend on store and reconciler alone", h.status, h.Parts, name)
		}
		return p.OK == ok
	})
}

// stays fails the test if the Manager that runs now is another one at the end of it.
func (w *world) stays() {
	m := w.manager
	w.t.Cleanup(func() {
		if p, ok := m.(*process); ok && p.hasEnded() {
			w.t.Error("the Manager ended")
		}
	})
}

func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// prompt is what a client may have to wait for a 201. It is no measurement: what must not happen is a wait for a server that hangs.
const prompt = 2 * time.Second

// submitPrompt submits jobs, one after the other, and fails if most clients had to wait, or one of them very long.
func (l *ledger) submitPrompt(jobs int, set string, shards int) {
	t := l.w.t
	t.Helper()
	var took []time.Duration
	for range jobs {
		began := time.Now()
		l.mustSubmit(set, shards, nil)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if took[len(took)/2] > prompt || took[len(took)-1] > 5*prompt {
		t.Errorf("POST /jobs took %v: the clients waited for a server that they have nothing to do with", took)
	}
}

// wantOnly fails unless the Manager's jobs are exactly those that the ledger has, each whole: a job that was refused is not there.
func (l *ledger) wantOnly(shards int) {
	t := l.w.t
	t.Helper()
	known, seen := l.jobs(), 0
	for q := (api.JobQuery{Limit: 100}); ; {
		page, err := l.w.client.Jobs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			seen++
			if _, ok := known[j.ID]; !ok {
				t.Errorf("job %s is there and was never acknowledged", j.ID)
			}
			if n := j.Counts.Tasks; n != shards {
				t.Errorf("job %s has %d tasks, want %d: half of it was written", j.ID, n, shards)
			}
		}
		if q.Before = page.Next; q.Before == "" {
			break
		}
	}
	if seen != len(known) {
		t.Errorf("%d jobs are there, %d were acknowledged", seen, len(known))
	}
}

// audit looks at the ground again and again until it is stopped: never more workers than limit, never two of one spawn, none that lives
// while its spawn has ended. What it saw is logged.
func (w *world) audit(limit int) (stop func()) {
	ctx, end := context.WithCancel(w.t.Context())
	var work sync.WaitGroup
	samples, most := 0, 0
	work.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
			ask, answered := context.WithTimeout(ctx, 200*time.Millisecond) // a Manager that is stopped must not blind the audit
			ended := w.endedSpawns(ask)
			answered()
			workers := w.workers()
			samples++
			most = max(most, len(workers))
			if len(workers) > limit {
				w.t.Errorf("%d workers live, above the cap of %d", len(workers), limit)
			}
			alive := map[job.SpawnID]string{}
			for _, x := range workers {
				if other, twice := alive[x.spawn]; twice {
					w.t.Errorf("spawn %s lives twice: %s and %s", x.spawn, other, x.id)
				}
				alive[x.spawn] = x.id
				if ended[x.spawn] {
					w.t.Errorf("spawn %s has ended and its worker %s lives", x.spawn, x.id)
				}
			}
		}
	})
	return func() {
		end()
		work.Wait()
		w.t.Logf("%d looks, at most %d workers at once, cap %d", samples, most, limit)
	}
}

// endedSpawns are the latest of those that the Manager takes for ended; none while it is away.
func (w *world) endedSpawns(ctx context.Context) map[job.SpawnID]bool {
	page, err := w.client.Spawns(ctx, api.SpawnQuery{Limit: 100})
	if err != nil {
		return nil
	}
	ended := map[job.SpawnID]bool{}
	for _, s := range page.Spawns {
		if !s.Live() {
			ended[s.ID] = true
		}
	}
	return ended
}

// standing starts a worker by hand, which ends with the test.
func (w *world) standing(name string, env ...string) *process {
	w.t.Helper()
	p := w.start(name, append([]string{"GMAPS_API_KEY=" + w.key}, env...), append([]string{"-worker", "-manager-url", "http://" + w.addr, "-maps-url", w.maps},
		servers{rabbitmq: w.servers.rabbitmq, redis: w.servers.redis}.flags()...)...)
	w.t.Cleanup(func() {
		if p.hasEnded() {
			b, _ := os.ReadFile(filepath.Join(w.dir, name+".log"))
			w.t.Errorf("standing worker %s ended:\n%s", name, b[max(0, len(b)-2000):])
			return
		}
		p.terminate(w.t)
	})
	return p
}

// newProxy stands between a Manager and a server at upstream, and cuts the connections when it is stopped.
func newProxy(t *testing.T, name, upstream string) *toxiproxy.Proxy {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()), name, freeAddr(t), upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// victims are servers that a test may do anything to.
type victims struct{ postgres, rabbitmq, redis *victim }

func startVictims(t *testing.T) victims {
	t.Helper()
	return victims{startPostgres(t, nil, "-c", "max_connections=60"), startRabbitMQ(t), startRedis(t)}
}

// servers are the victims' addresses, with a database of this test's own.
func (v victims) servers(t *testing.T) servers {
	t.Helper()
	v.postgres.t, v.rabbitmq.t, v.redis.t = t, t, t
	return servers{postgres: freshDatabase(t, v.postgres.dsn("")), rabbitmq: v.rabbitmq.amqp(""), redis: v.redis.redis()}
}

// TestFaultServers is one test, because the servers take longer to start than most of the faults.
func TestFaultServers(t *testing.T) {
	t.Parallel()
	v := startVictims(t)
	t.Run("RabbitMQ is struck", func(t *testing.T) { rabbitMQIsStruck(t, v) })
	t.Run("rings are a storm", func(t *testing.T) { ringsAreAStorm(t, v) })
	t.Run("Redis is struck", func(t *testing.T) { redisIsStruck(t, v) })
	t.Run("PostgreSQL is struck", func(t *testing.T) { postgresIsStruck(t, v) })
	t.Run("PostgreSQL has no connection left", func(t *testing.T) { connectionsRunOut(t, v) })
	t.Run("nemesis", func(t *testing.T) { nemesis(t, v) })
}

func rabbitMQIsStruck(t *testing.T, v victims) {
	s := v.servers(t)
	proxy := newProxy(t, "rabbitmq", v.rabbitmq.address)
	s.rabbitmq = v.rabbitmq.amqp(proxy.Listen)
	spawning := newWorld(t, setup{ground: onProcess, servers: s, size: 60, latency: 5 * time.Millisecond, flags: []string{"-spawner-max-workers", "2"}})
	s.postgres = freshDatabase(t, v.postgres.dsn(""))
	standing := newWorld(t, setup{servers: s, size: 60, latency: 5 * time.Millisecond})
	worlds := []*world{spawning, standing}
	standing.standing("standing-1")
	standing.standing("standing-2")
	waitFor(t, "both workers", func() bool {
		page, err := standing.client.Spawns(t.Context(), api.SpawnQuery{Live: true})
		return err == nil && len(page.Spawns) == 2
	})
	for _, w := range worlds {
		w.stays()
		w.waitPart("rabbitmq", true)
	}

	watermark := func(share string) func() {
		return func() { v.rabbitmq.exec("rabbitmqctl", "set_vm_memory_high_watermark", share) }
	}
	for range runs(1) {
		for _, k := range []strike{
			{"RabbitMQ paused", v.rabbitmq.pause, v.rabbitmq.heal},
			{"RabbitMQ killed", v.rabbitmq.kill, v.rabbitmq.heal},
			{"RabbitMQ in memory alarm", watermark("0"), watermark("0.6")},
			{"RabbitMQ's connections cut", proxy.Stop, func() {
				if err := proxy.Start(); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			k.do()
			ledgers := make([]*ledger, len(worlds))
			for i, w := range worlds {
				ledgers[i] = newLedger(w)
				ledgers[i].submitPrompt(5, "broker", 2)
				w.waitPart("rabbitmq", false)
				ledgers[i].submitPrompt(5, "broker", 2) // and when it is known
				w.waitDrained()                         // without the broker
			}
			k.undo()
			for i, w := range worlds {
				w.waitPart("rabbitmq", true)
				ledgers[i].submitPrompt(2, "broker", 2)
				ledgers[i].balance(k.name, 1)
			}
		}
	}
}

func redisIsStruck(t *testing.T, v victims) {
	w := newWorld(t, setup{ground: onProcess, servers: v.servers(t), size: 200, latency: 10 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
	w.stays()
	for range runs(1) {
		for _, k := range []strike{
			{"Redis flushed", v.redis.flush, nil},
			{"Redis paused", v.redis.pause, v.redis.heal},
			{"Redis killed", v.redis.kill, v.redis.heal},
		} {
			l := newLedger(w)
			id := l.mustSubmit("redis", 6, func(n *api.NewJob) { n.MaxWorkers = 3 })
			w.waitJob(id, "places", func(j job.Job) bool { return j.Counts.Places > 0 })
			k.do()
			l.submitPrompt(3, "redis", 2)
			if k.undo == nil {
				l.balance(k.name, 1)
				continue
			}
			w.waitPart("redis", false)
			w.waitDrained() // without Redis
			k.undo()
			w.waitPart("redis", true)
			l.balance(k.name, 1)
		}
	}
}

// wantRefusal fails unless an answer is that of a Manager whose database is away: come again, and when.
func wantRefusal(t *testing.T, res *http.Response) {
	t.Helper()
	if res.Header.Get("Retry-After") == "" || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		t.Errorf("%s came as %q with Retry-After %q: want a problem that says when to come again", res.Status, res.Header.Get("Content-Type"), res.Header.Get("Retry-After"))
	}
}

// submitUntilRefused submits jobs until the Manager answers 503, and records those that it acknowledged until then.
// Any other answer fails the test.
func (l *ledger) submitUntilRefused(set string, shards int) {
	t, w := l.w.t, l.w
	t.Helper()
	waitFor(t, "a 503", func() bool {
		res := w.post(t, api.NewJob{Name: set, Lines: lines(set, shards), MaxAttempts: 100})
		defer res.Body.Close()
		switch res.StatusCode {
		case http.StatusCreated:
			var j job.Job
			if err := json.NewDecoder(res.Body).Decode(&j); err != nil {
				t.Fatal(err)
			}
			l.record(j.ID, set)
			return false
		case http.StatusServiceUnavailable:
			wantRefusal(t, res)
			return true
		}
		t.Fatalf("POST /jobs answered %s: want 201 or 503", res.Status)
		return false
	})
}

func (l *ledger) record(id job.ID, set string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected[id] = set
}

// lines are those of a job that covers a whole set with shards tasks.
func lines(set string, shards int) string {
	var all []string
	for i := range shards {
		all = append(all, fmt.Sprintf("synthetic:%s %d/%d", set, i+1, shards))
	}
	return strings.Join(all, "\n")
}

// post sends a job once and returns what the Manager answered. The caller closes its body.
func (w *world) post(t *testing.T, n api.NewJob) *http.Response {
	t.Helper()
	body, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.addr+api.PathJobs, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+w.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
