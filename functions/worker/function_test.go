package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"go.uber.org/goleak"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/store/sqlite"
)

// captor is a backend that only notes what it was asked for.
type captor struct{ specs chan spawner.Spec }

func (c captor) Backend() string { return "lambda" }
func (c captor) Create(_ context.Context, s spawner.Spec) (spawner.Worker, error) {
	c.specs <- s
	return spawner.Worker{ID: spawner.ID("req-" + s.SpawnID), Name: s.Name, SpawnID: s.SpawnID, Running: true}, nil
}
func (c captor) List(context.Context) ([]spawner.Worker, error)        { return nil, errors.ErrUnsupported }
func (c captor) Stop(context.Context, spawner.ID, time.Duration) error { return errors.ErrUnsupported }
func (c captor) Collect(context.Context, spawner.ID) (spawner.Exit, error) {
	return spawner.Exit{Code: -1, LogTail: "see CloudWatch"}, nil
}
func (c captor) Remove(context.Context, spawner.ID) error { return nil }
func (c captor) Check(context.Context) error              { return nil }
func (c captor) Limits() spawner.Limits {
	return spawner.Limits{MaxWorkers: 9, Flag: "spawner-lambda-max-conc", JoinDeadline: time.Minute, Lifetime: 15 * time.Minute, USDPerSecond: 1e-5}
}

// home is a Manager with a simulator beside it.
type home struct {
	*testing.T
	store store.Store
	url   string
	maps  string
}

func newHome(t *testing.T, s spawner.Spawner, latency time.Duration, change ...func(*manager.Config)) *home {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "gmaps.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := &home{T: t, store: st}
	server := httptest.NewUnstartedServer(nil)
	h.url = "http://" + server.Listener.Addr().String()
	c := manager.Config{Store: st, Spawner: s, Open: true, ManagerURL: h.url, AutoRemove: true, Version: "test", SweepInterval: 50 * time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	m, err := manager.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	server.Config = manager.Server(m.Handler())
	server.Start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	sim, err := simulator.New(simulator.Config{Synthetic: 5000, Latency: latency})
	if err != nil {
		t.Fatal(err)
	}
	maps := httptest.NewServer(sim)
	h.maps = maps.URL
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
		server.Close()
		maps.Close()
		_ = st.Close()
	})
	return h
}

// soon makes heartbeats frequent: they are what tells a worker of its job.
func soon(c *manager.Config) { c.LeaseTTL = 3 * time.Second }

func (h *home) job(keywords ...string) job.ID {
	h.Helper()
	n := store.NewJob{ID: job.NewID(), Spec: job.Spec{Name: "cafes", MaxWorkers: 1, MaxAttempts: 3}}
	for _, k := range keywords {
		n.Spec.Inputs = append(n.Spec.Inputs, job.Input{Text: k})
		n.Tasks = append(n.Tasks, job.Task{Query: gmaps.Query{Keyword: k, Lang: "en"}})
	}
	if _, _, err := h.store.CreateJob(h.Context(), n); err != nil {
		h.Fatal(err)
	}
	return n.ID
}

func (h *home) head(id job.ID) job.Job {
	h.Helper()
	j, err := h.store.JobHead(h.Context(), id)
	if err != nil {
		h.Fatal(err)
	}
	return j
}

func (h *home) spawns(id job.ID) []job.Spawn {
	h.Helper()
	rows, err := h.store.Spawns(h.Context(), store.SpawnFilter{JobID: id})
	if err != nil {
		h.Fatal(err)
	}
	return rows
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// event is the payload that the real spawner would send.
func event(s spawner.Spec, more string) []byte {
	return fmt.Appendf(nil, `{"job_id":%q,"priority":0,"manager_url":%q,"concurrency":2,"spawn_id":%q,"worker_token":%q,"of_a_later_version":[1]%s}`,
		s.JobID, s.Env["GMAPS_MANAGER_URL"], s.SpawnID, s.Secrets["GMAPS_WORKER_TOKEN"], more)
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func invoke(t *testing.T, ctx context.Context, f *function, event []byte) report {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	b, err := f.Invoke(ctx, event)
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// parked are goroutines that wait for the other end of a connection: those of idle connections stay, and do nothing.
var parked = []goleak.Option{
	goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
	goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).servePeer"), goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).servePeer.func2"),
	// The Manager's own.
	goleak.IgnoreAnyFunction("gmaps-scraper/manager.(*reconciler).Run"), goleak.IgnoreAnyFunction("gmaps-scraper/manager.(*reconciler).loop"), goleak.IgnoreAnyFunction("gmaps-scraper/manager.(*sweeper).Run"),
}

// The sandbox is frozen between two invocations: whatever ran on would wake up in the middle of the next.
func TestNothingRunsOnBetweenTwoInvocations(t *testing.T) {
	redis := miniredis.RunT(t)
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, 0)
	f := newFunction(env("GMAPS_MAPS_URL", h.maps, "GMAPS_LOG_FORMAT", "json"), io.Discard)
	before := goleak.IgnoreCurrent()
	var first *function
	for i := range 2 {
		id := h.job(fmt.Sprintf("synthetic %d/200", i+1))
		r := invoke(t, t.Context(), f, event(<-specs, fmt.Sprintf(`,"redis_addr":%q`, redis.Addr())))
		if err := goleak.Find(append(parked, before)...); err != nil {
			t.Errorf("after invocation %d: %v", i+1, err)
		}
		if r.Tasks != 1 || r.Results == 0 || r.HandedBack != 0 || r.Reason != "no more work" {
			t.Errorf("report %+v", r)
		}
		// The goodbye is heard before the answer.
		row := h.spawns(id)[0]
		if row.State != job.SpawnEnded || row.Outcome != job.Exited || row.ExitCode == nil || *row.ExitCode != 0 || row.CostUSD <= 0 || row.LogTail != "see CloudWatch" {
			t.Errorf("spawn %+v: want ended by its goodbye, with cost and pointer", row)
		}
		if j := h.head(id); j.State != job.Succeeded || j.CostUSD != row.CostUSD {
			t.Errorf("job %s, cost %v; want succeeded, %v", j.State, j.CostUSD, row.CostUSD)
		}
		if i == 0 {
			first = &function{engine: f.engine, redis: f.redis, settings: f.settings}
		}
	}
	if f.redis == nil || f.redis != first.redis || f.engine != first.engine || f.settings != first.settings {
		t.Error("the second invocation did not use the first one's connections")
	}
	f.redis.Close()
	f.engine.Close()
}

func TestEngineIsKeptWithoutRedisToo(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, 0)
	f := newFunction(env("GMAPS_MAPS_URL", h.maps), io.Discard)
	h.job("synthetic 1/200")
	invoke(t, t.Context(), f, event(<-specs, ""))
	engine := f.engine
	h.job("synthetic 2/200")
	invoke(t, t.Context(), f, event(<-specs, ""))
	if f.engine != engine || engine == nil {
		t.Error("the second invocation made another engine")
	}
}

func TestWorkerHandsBackBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, time.Minute) // no search ever ends
	f := newFunction(env("GMAPS_MAPS_URL", h.maps), io.Discard)
	id := h.job("synthetic 1/3", "synthetic 2/3", "synthetic 3/3")
	ctx, due := context.WithCancel(t.Context())
	go func() {
		defer due()
		for end := time.Now().Add(time.Minute); h.head(id).Counts.Leased == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
	}()
	r := invoke(t, ctx, f, event(<-specs, ""))
	if r.Reason != "deadline" || r.HandedBack == 0 || r.Tasks != 0 {
		t.Errorf("report %+v, want tasks handed back for the deadline", r)
	}
	if c := h.head(id).Counts; c.Open+c.Leased != 3 || c.Dead != 0 {
		t.Errorf("counts %+v, want all three to do still", c)
	}
	tasks, err := h.store.Tasks(t.Context(), id, store.TaskFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if task.State == job.TaskOpen && task.Attempts != 0 {
			t.Errorf("task %d was charged %d attempts", task.ID, task.Attempts)
		}
	}
	if next := <-specs; next.JobID != string(id) {
		t.Errorf("the next worker is of job %s", next.JobID)
	}
}

// Nobody else can tell that the invocation is over, and it would hold its place under the cap until its timeout.
func TestWorkerOfACancelledJobSaysGoodbye(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, time.Minute, soon) // no search ever ends
	f := newFunction(env("GMAPS_MAPS_URL", h.maps), io.Discard)
	id := h.job("synthetic 1/3")
	s := <-specs
	done := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), event(s, ""))
		done <- err
	}()
	waitFor(t, "a lease", func() bool { return h.head(id).Counts.Leased > 0 })
	if _, err := h.store.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if row := h.spawns(id)[0]; row.Live() || row.Outcome != job.Stopped || !row.MayRunUntil.IsZero() {
		t.Errorf("spawn %+v: want it ended, and its place free", row)
	}
}

// Whoever was taken for dead too soon frees its place when it finds out.
func TestWorkerThatWasGivenUpFreesItsPlace(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, time.Minute, soon)
	f := newFunction(env("GMAPS_MAPS_URL", h.maps), io.Discard)
	id := h.job("synthetic 1/3")
	s := <-specs
	done := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), event(s, ""))
		done <- err
	}()
	waitFor(t, "a lease", func() bool { return h.head(id).Counts.Leased > 0 })
	end := store.SpawnEnd{Outcome: job.Silent, Reason: "has not spoken", MayRunUntil: time.Now().Add(time.Hour)}
	if err := h.store.SpawnEnded(t.Context(), job.SpawnID(s.SpawnID), end); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	row, err := h.store.Spawn(t.Context(), job.SpawnID(s.SpawnID))
	if err != nil || row.Outcome != job.Silent || !row.MayRunUntil.IsZero() {
		t.Errorf("spawn %+v, %v: want silent still, and its place free", row, err)
	}
}

func TestReasonOfAGoodbyeIsOneTheManagerTakes(t *testing.T) {
	t.Parallel()
	got := line("a\nb\x00c\xff" + strings.Repeat("é", 1000))
	if !strings.HasPrefix(got, "a b cé") || len(got) > 1000 || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %q", len(got), got[:20])
	}
}

// A connection that went while the environment was frozen is not tried: nobody may say that it is gone.
func TestConnectionsAreNotTrustedAfterALongFreeze(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	f := newFunction(env(), io.Discard)
	e := fmt.Appendf(nil, `{"job_id":"j","manager_url":%q,"spawn_id":"s","worker_token":"t"}`, srv.URL)
	for i, idle := range []time.Duration{0, 0, time.Hour} {
		f.served = f.served.Add(-idle)
		if _, err := f.Invoke(t.Context(), e); err == nil {
			t.Fatal("404 is no refusal")
		}
		if got, want := opened.Load(), []int32{1, 1, 2}[i]; got != want {
			t.Errorf("after invocation %d, frozen for %v before: %d connections, want %d", i+1, idle, got, want)
		}
	}
}

func TestDrainBeginsThirtySecondsOrATenthBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for total, want := range map[time.Duration]time.Duration{15 * time.Minute: 30 * time.Second, time.Minute: 6 * time.Second, 3 * time.Second: 300 * time.Millisecond} {
		ctx, cancel := context.WithDeadline(t.Context(), now.Add(total))
		at, lead := drainAt(ctx, now)
		cancel()
		if lead != want || !at.Equal(now.Add(total-want)) {
			t.Errorf("of %v: %v before the end, want %v", total, lead, want)
		}
	}
}

func TestEventDeliveredTwiceIsOneWorker(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, 0)
	id := h.job("synthetic 1/100", "synthetic 2/100", "synthetic 3/100")
	e := event(<-specs, "")
	var all sync.WaitGroup
	reports := make([]report, 3)
	for i := range reports {
		all.Go(func() {
			f := newFunction(env("GMAPS_MAPS_URL", h.maps), io.Discard)
			b, err := f.Invoke(t.Context(), e)
			if err != nil {
				t.Errorf("delivery %d: %v", i, err)
				return
			}
			_ = json.Unmarshal(b, &reports[i])
		})
	}
	all.Wait()
	workers := 0
	for _, r := range reports {
		if r.Tasks > 0 {
			workers++
		} else if r.Reason != "another worker has this spawn" && r.Reason != "its spawn has ended" {
			t.Errorf("report %+v", r)
		}
	}
	if workers != 1 || h.head(id).State != job.Succeeded {
		t.Errorf("%d deliveries worked, the job is %s; want one, succeeded", workers, h.head(id).State)
	}
}

func TestBadPayloadIsATypedErrorThatNamesTheField(t *testing.T) {
	const fit = `"job_id":"j","manager_url":"http://127.0.0.1:1","spawn_id":"s","worker_token":"hunter2"`
	for name, c := range map[string]struct{ event, kind, want string }{
		"no JSON":         {`hunter2`, badPayload, "no JSON object"},
		"wrong type":      {`{` + fit + `,"priority":"hunter2"}`, badPayload, "priority:"},
		"no job":          {`{"manager_url":"http://m","spawn_id":"s","worker_token":"hunter2"}`, badPayload, "job_id: is missing"},
		"no token":        {`{"job_id":"j","manager_url":"http://m","spawn_id":"s"}`, badPayload, "worker_token: is missing"},
		"no URL":          {`{"job_id":"j","manager_url":"hunter2","spawn_id":"s","worker_token":"t"}`, badPayload, "manager_url: is no http"},
		"priority":        {`{` + fit + `,"priority":11}`, badPayload, "priority: is not between 0 and 10"},
		"concurrency":     {`{` + fit + `,"concurrency":-1}`, badPayload, "concurrency:"},
		"bad reference":   {`{` + fit + `,"redis_addr":"arn:aws:secretsmanager:x"}`, secretUnavailable, "redis_addr: is no reference"},
		"bad variable":    {`{` + fit + `}`, badSetting, "GMAPS_RATE: is not a number"},
		"user in the URL": {`{"job_id":"j","manager_url":"http://u:hunter2@m","spawn_id":"s","worker_token":"t"}`, badPayload, "manager_url: holds a user name"},
	} {
		t.Run(name, func(t *testing.T) {
			vars := env()
			if name == "bad variable" {
				vars = env("GMAPS_RATE", "hunter2")
			}
			_, err := newFunction(vars, io.Discard).Invoke(t.Context(), []byte(c.event))
			said, ok := errors.AsType[messages.InvokeResponse_Error](err)
			if !ok || said.Type != c.kind || !strings.Contains(said.Message, c.want) {
				t.Errorf("error %#v, want %s %q", err, c.kind, c.want)
			}
			if ok && strings.Contains(said.Message, "hunter2") {
				t.Errorf("a value is shown: %s", said.Message)
			}
		})
	}
}

func TestManagerThatRefusesIsATypedError(t *testing.T) {
	t.Parallel()
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, 0)
	h.job("synthetic 1/100")
	s := <-specs
	s.Secrets["GMAPS_WORKER_TOKEN"] = "gw_wrong"
	_, err := newFunction(env(), io.Discard).Invoke(t.Context(), event(s, ""))
	if said, ok := errors.AsType[messages.InvokeResponse_Error](err); !ok || said.Type != managerRefused {
		t.Errorf("error %#v, want %s", err, managerRefused)
	}
}

// secretsManager speaks the wire of GetSecretValue.
type secretsManager struct {
	mu     sync.Mutex
	values map[string]string // by id
	asked  []map[string]string
}

func (s *secretsManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in map[string]string
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	v, ok := s.values[in["SecretId"]]
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"AccessDeniedException","Message":"not authorized"}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": v})
}

func newSecretsManager(t *testing.T, values map[string]string) *secretsManager {
	t.Helper()
	s := &secretsManager{values: values}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": srv.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": t.TempDir() + "/none", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/none", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(k, v)
	}
	return s
}

const secretARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis-AbCdEf"

func TestReferencesAreResolvedOnce(t *testing.T) {
	sm := newSecretsManager(t, map[string]string{secretARN: `{"password":"hunter2","port":6379}`, secretARN + "x": "plain"})
	var s secrets
	for _, c := range []struct{ value, want string }{
		{"no reference", "no reference"}, {secretARN + "x", "plain"}, {secretARN + ":password", "hunter2"}, {secretARN + ":password", "hunter2"},
		{secretARN + ":port", "6379"}, {secretARN + ":password:AWSPREVIOUS:v1", "hunter2"}, {secretARN + ":password::", "hunter2"},
	} {
		if got, err := s.resolve(t.Context(), "f", c.value); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.value, got, err, c.want)
		}
	}
	if n := len(sm.asked); n != 5 {
		t.Errorf("%d questions, want 5: one for each reference", n)
	}
	if last := sm.asked[3]; last["VersionStage"] != "AWSPREVIOUS" || last["VersionId"] != "v1" {
		t.Errorf("asked for %v, want stage and version", last)
	}
	for value, want := range map[string]string{
		secretARN + "y":              "f: secret " + secretARN + "y: access denied; allow secretsmanager:GetSecretValue",
		secretARN + ":absent":        "has no key absent",
		secretARN + "x:k":            "is no JSON object",
		secretARN + ":a:b:c:d":       "is no reference",
		"arn:aws-cn:secretsmanager:": "is no reference",
	} {
		if _, err := s.resolve(t.Context(), "f", value); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}

func TestRotatedPasswordIsAskedForAgain(t *testing.T) {
	redis := miniredis.RunT(t)
	redis.RequireAuth("new")
	sm := newSecretsManager(t, map[string]string{secretARN: "old"})
	specs := make(chan spawner.Spec, 10)
	h := newHome(t, captor{specs}, 0)
	f := newFunction(env("GMAPS_MAPS_URL", h.maps, "GMAPS_REDIS_PASSWORD", secretARN), io.Discard)
	if _, err := f.secrets.resolve(t.Context(), "x", secretARN); err != nil { // by an earlier invocation
		t.Fatal(err)
	}
	sm.values[secretARN] = "new"
	h.job("synthetic 1/100")
	if r := invoke(t, t.Context(), f, event(<-specs, fmt.Sprintf(`,"redis_addr":%q`, redis.Addr()))); r.Tasks != 1 {
		t.Errorf("report %+v", r)
	}
	if f.redis == nil {
		t.Fatal("the new password was not asked for")
	}
	f.redis.Close()
}

// The whole way: the Manager, its Lambda spawner, Lambda's wire, the Runtime API, the real bootstrap, the Manager again.
func TestJobIsDoneByTheRealBootstrap(t *testing.T) {
	for _, kind := range []spawner.Invocation{spawner.InvokeEvent, spawner.InvokeRequestResponse} {
		t.Run(string(kind), func(t *testing.T) {
			h, c := newCloudHome(t, kind, nil)
			id := h.job("synthetic 1/50", "synthetic 2/50")
			waitFor(t, "the job's success", func() bool { return h.head(id).State == job.Succeeded })
			waitFor(t, "the spawn's end", func() bool { return !h.spawns(id)[0].Live() })
			rows := h.spawns(id)
			invoked, _, _ := c.seen()
			if len(rows) != 1 || rows[0].Outcome != job.Exited || *rows[0].ExitCode != 0 || rows[0].CostUSD <= 0 || !rows[0].MayRunUntil.IsZero() || invoked != 1 {
				t.Errorf("%d invocations, spawns %+v", invoked, rows)
			}
			want := "CloudWatch"
			if kind == spawner.InvokeRequestResponse {
				want = "Billed Duration: 100 ms"
			}
			if !strings.Contains(rows[0].LogTail, want) {
				t.Errorf("log tail %q, want %q", rows[0].LogTail, want)
			}
			if j := h.head(id); j.Counts.Places == 0 || j.Counts.Done != 2 || j.CostUSD != rows[0].CostUSD {
				t.Errorf("job %+v", j)
			}
		})
	}
}

func TestEventThatRunsThreeTimesGivesOneSetOfResults(t *testing.T) {
	h, c := newCloudHome(t, spawner.InvokeEvent, func(c *cloud) { c.deliver = 3 })
	id := h.job("synthetic 1/50")
	waitFor(t, "the job's success", func() bool { return h.head(id).State == job.Succeeded })
	waitFor(t, "three answers", func() bool { _, reports, _ := c.seen(); return len(reports) == 3 })
	_, reports, faults := c.seen()
	if j := h.head(id); j.Counts.Duplicates != 0 || j.Counts.Places == 0 {
		t.Errorf("counts %+v", j.Counts)
	}
	if all := strings.Join(faults, ""); all != "" {
		t.Errorf("a delivery failed: %s (reports %v)", all, reports)
	}
}

func newCloudHome(t *testing.T, kind spawner.Invocation, change func(*cloud)) (*home, *cloud) {
	t.Helper()
	sim, err := simulator.New(simulator.Config{Synthetic: 5000})
	if err != nil {
		t.Fatal(err)
	}
	maps := httptest.NewServer(sim)
	t.Cleanup(maps.Close)
	c, url := newCloud(t, "GMAPS_MAPS_URL="+maps.URL)
	if change != nil {
		change(c)
	}
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA": url, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": t.TempDir() + "/none", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/none", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(k, v)
	}
	l, err := spawner.NewLambda(t.Context(), spawner.LambdaConfig{Function: "gmaps-worker", Invocation: kind, MaxConc: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return newHome(t, l, 0), c
}
