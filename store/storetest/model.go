package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// The model's clock ticks by itself never, and by 10 minutes when told: so that a slow machine is no part of the test.
const (
	tick       = 10 * time.Minute
	leaseTicks = 3
	modelTTL   = leaseTicks*tick - tick/2

	// modelTime bounds the search: a slow machine, or one that looks for races, tries fewer ways.
	modelTime = 15 * time.Second
)

// model is what the store must hold, in the plainest form.
type model struct {
	b      bench
	ctx    context.Context
	now    int
	fence  job.Fence // the largest so far
	jobs   []*modelJob
	spawns []*modelSpawn
	leases []*modelLease
}

type modelJob struct {
	id         job.ID
	state      job.State
	attempts   int // the most of a task
	started    bool
	tasks      []*modelTask
	places     map[string]bool
	duplicates int
}

type modelTask struct {
	id                job.TaskID
	state             job.TaskState
	cursor            string
	attempts, crashes int
	held              *modelLease
}

type modelSpawn struct {
	id    job.SpawnID
	ended bool
}

type modelLease struct {
	fence   job.Fence
	spawn   *modelSpawn
	job     *modelJob
	tasks   []*modelTask
	expires int
	ended   bool
	acks    map[string]job.Ack // by what was handed in
	batches []job.Batch
}

// checkModel lets workers and operators do anything in any order and compares the store with the model after each step.
func checkModel(t *testing.T, open func(t *testing.T) Fixture) {
	b := bench{open(t)}
	names, begun := 0, time.Now()
	rapid.Check(t, func(r *rapid.T) {
		if time.Since(begun) > modelTime {
			return
		}
		m := &model{b: b, ctx: t.Context()}
		defer m.clear(t)
		for range 2 {
			m.createJob(r)
		}
		for range 3 {
			names++
			m.join(r, fmt.Sprint("worker ", names))
		}
		r.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"grant":    m.grant,
			"submit":   m.submit,
			"replay":   m.replay,
			"renew":    m.renew,
			"handBack": m.handBack,
			"wait":     func(*rapid.T) { m.now++; b.Advance(tick) },
			"expire":   m.expire,
			"control":  m.control,
			"endSpawn": func(r *rapid.T) {
				names++
				m.endSpawn(r)
				m.join(r, fmt.Sprint("worker ", names))
			},
		})
	})
}

func (m *model) createJob(r *rapid.T) {
	s := shape{tasks: rapid.IntRange(1, 5).Draw(r, "tasks"), spec: job.Spec{MaxAttempts: rapid.IntRange(1, 3).Draw(r, "attempts")}}
	j, _, err := m.b.Store.CreateJob(m.ctx, newJob(s))
	if err != nil {
		r.Fatal(err)
	}
	mj := &modelJob{id: j.ID, state: job.Pending, attempts: s.spec.MaxAttempts, places: make(map[string]bool)}
	for _, task := range m.read(r, mj) {
		mj.tasks = append(mj.tasks, &modelTask{id: task.ID, state: job.TaskOpen})
	}
	m.jobs = append(m.jobs, mj)
}

func (m *model) join(r *rapid.T, nonce string) {
	s, err := m.b.Store.JoinStanding(m.ctx, nonce, 4)
	if err != nil {
		r.Fatal(err)
	}
	m.spawns = append(m.spawns, &modelSpawn{id: s.ID})
}

// clear leaves nothing that a later run could be granted.
func (m *model) clear(t *testing.T) {
	for _, j := range m.jobs {
		if _, err := m.b.Store.Cancel(m.ctx, j.id); err != nil {
			t.Error(err)
		}
	}
}

func (l *modelLease) live(now int) bool { return !l.ended && now < l.expires }

// mayGrant finds out whether a spawn may be given a task, and whether one that has crashed a worker.
func (m *model) mayGrant(s *modelSpawn) (healthy, suspect bool) {
	alone := true
	for _, l := range m.leases {
		if l.spawn != s || l.ended {
			continue
		}
		alone = false
		for _, t := range l.tasks {
			if t.held == l && t.crashes > 0 {
				return false, false
			}
		}
	}
	for _, j := range m.jobs {
		if j.state != job.Pending && j.state != job.Running {
			continue
		}
		for _, t := range j.tasks {
			healthy = healthy || t.state == job.TaskOpen && t.crashes == 0
			suspect = suspect || t.state == job.TaskOpen && t.crashes > 0 && alone
		}
	}
	return healthy, suspect
}

func (m *model) grant(r *rapid.T) {
	s := rapid.SampledFrom(m.spawns).Draw(r, "spawn")
	most := rapid.IntRange(1, 4).Draw(r, "max")
	healthy, suspect := m.mayGrant(s)
	got, err := m.b.Store.Grant(m.ctx, s.id, most, modelTTL)
	switch {
	case s.ended:
		m.wantErr(r, err, store.ErrUnknownSpawn)
		return
	case !healthy && !suspect:
		m.wantErr(r, err, store.ErrNoWork)
		return
	case err != nil:
		r.Fatalf("Grant: %v", err)
	}
	if got.Fence <= m.fence || len(got.Tasks) == 0 || len(got.Tasks) > most {
		r.Fatalf("granted %d tasks of %d under fence %d after %d", len(got.Tasks), most, got.Fence, m.fence)
	}
	m.fence = got.Fence
	j := m.jobs[slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.id == got.JobID })]
	l := &modelLease{fence: got.Fence, spawn: s, job: j, expires: m.now + leaseTicks, acks: make(map[string]job.Ack)}
	for _, task := range got.Tasks {
		t := j.task(task.ID)
		if t.state != job.TaskOpen {
			r.Fatalf("task %d was granted while %s", t.id, t.state)
		}
		if t.crashes > 0 && (len(got.Tasks) > 1 || !suspect) {
			r.Fatalf("task %d, which has crashed a worker, was not granted alone", t.id)
		}
		t.state, t.held = job.TaskLeased, l
		t.attempts++
		l.tasks = append(l.tasks, t)
	}
	j.state, j.started = job.Running, true
	m.leases = append(m.leases, l)
}

func (j *modelJob) task(id job.TaskID) *modelTask {
	return j.tasks[slices.IndexFunc(j.tasks, func(t *modelTask) bool { return t.id == id })]
}

func (m *model) lease(r *rapid.T) *modelLease {
	if len(m.leases) == 0 {
		r.Skip("no lease yet")
	}
	return rapid.SampledFrom(m.leases).Draw(r, "lease")
}

func (m *model) submit(r *rapid.T) {
	l := m.lease(r)
	var batch job.Batch
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 4).Draw(r, "places") {
		batch.Places = append(batch.Places, found(rapid.SampledFrom(l.tasks).Draw(r, "finder").id, n)...)
	}
	for _, t := range l.tasks {
		step := job.TaskStep{TaskID: t.id}
		switch rapid.SampledFrom([]string{"none", "cursor", "done", "error"}).Draw(r, "step") {
		case "none":
			continue
		case "cursor":
			step.Cursor = "page 2"
		case "done":
			step.Done = true
		case "error":
			step.Error = "busy"
		}
		batch.Tasks = append(batch.Tasks, step)
	}
	m.handIn(r, l, batch)
}

func (m *model) replay(r *rapid.T) {
	l := m.lease(r)
	if len(l.batches) == 0 {
		r.Skip("nothing to replay")
	}
	m.handIn(r, l, rapid.SampledFrom(l.batches).Draw(r, "batch"))
}

func (m *model) handIn(r *rapid.T, l *modelLease, batch job.Batch) {
	ack, err := m.b.Store.Submit(m.ctx, l.fence, batch)
	key := fmt.Sprintf("%+v", batch)
	if first, replayed := l.acks[key]; replayed {
		ack.Order, first.Order = "", ""
		if err != nil || ack != first {
			r.Fatalf("replay: got %+v, %v, want %+v", ack, err, first)
		}
		return
	}
	if !l.live(m.now) {
		m.wantErr(r, err, store.ErrStaleFence)
		return
	}
	if err != nil {
		r.Fatalf("Submit: %v", err)
	}
	var want job.Ack
	for _, f := range batch.Places {
		if l.job.places[f.Place.Key()] {
			want.Duplicates++
			continue
		}
		l.job.places[f.Place.Key()] = true
		want.New++
	}
	l.job.duplicates += want.Duplicates
	for _, step := range batch.Tasks {
		if t := l.job.task(step.TaskID); t.held == l {
			m.step(t, l.job, step)
		}
	}
	l.ended = !slices.ContainsFunc(l.tasks, func(t *modelTask) bool { return t.held == l }) && len(batch.Tasks) > 0 || l.ended
	m.finish(l.job)
	if ack.New != want.New || ack.Duplicates != want.Duplicates {
		r.Fatalf("ack: got %+v, want %+v", ack, want)
	}
	l.acks[key] = ack
	l.batches = append(l.batches, batch)
}

func (m *model) step(t *modelTask, j *modelJob, step job.TaskStep) {
	if step.Cursor != "" {
		t.cursor = string(step.Cursor)
	}
	switch {
	case step.Done:
		t.state, t.held = job.TaskDone, nil
	case step.Error != "":
		t.fail(j)
	}
}

func (t *modelTask) fail(j *modelJob) {
	t.state, t.held = job.TaskOpen, nil
	if t.attempts >= j.attempts {
		t.state = job.TaskDead
	}
}

// finish makes a job terminal once nothing of it is open or leased.
func (m *model) finish(j *modelJob) {
	n := j.counts()
	switch {
	case j.state.Terminal() || n.Open+n.Leased > 0:
	case n.Done == 0 && n.Dead > 0:
		j.state = job.Failed
	default:
		j.state = job.Succeeded
	}
}

func (m *model) renew(r *rapid.T) {
	l := m.lease(r)
	order, err := m.b.Store.Renew(m.ctx, l.fence, modelTTL)
	switch {
	case l.job.state.Terminal():
		if err != nil || order != job.Cancel {
			r.Fatalf("Renew of a job that is over: %q, %v", order, err)
		}
	case !l.live(m.now):
		m.wantErr(r, err, store.ErrStaleFence)
	case err != nil:
		r.Fatalf("Renew: %v", err)
	default:
		l.expires = m.now + leaseTicks
		if want := map[bool]job.Order{true: job.Drain, false: job.Continue}[l.job.state == job.Paused]; order != want {
			r.Fatalf("Renew: got %s, want %s", order, want)
		}
	}
}

func (m *model) handBack(r *rapid.T) {
	l := m.lease(r)
	if err := m.b.Store.HandBack(m.ctx, l.fence, []job.TaskStep{{TaskID: l.tasks[0].id, Cursor: "page 3"}}); err != nil {
		r.Fatalf("HandBack: %v", err)
	}
	if !l.live(m.now) {
		return
	}
	if l.tasks[0].held == l {
		l.tasks[0].cursor = "page 3"
	}
	l.giveBack()
}

func (l *modelLease) giveBack() {
	l.ended = true
	for _, t := range l.tasks {
		if t.held == l {
			t.state, t.held = job.TaskOpen, nil
			t.attempts--
		}
	}
}

func (m *model) lose(l *modelLease) {
	l.ended = true
	for _, t := range l.tasks {
		if t.held == l {
			t.crashes++
			t.fail(l.job)
		}
	}
	m.finish(l.job)
}

func (m *model) expire(r *rapid.T) {
	got, err := m.b.Store.Expire(m.ctx)
	if err != nil {
		r.Fatalf("Expire: %v", err)
	}
	want := 0
	for _, l := range m.leases {
		if !l.ended && m.now >= l.expires {
			want++
			m.lose(l)
		}
	}
	if got != want {
		r.Fatalf("Expire ended %d leases, want %d", got, want)
	}
}

func (m *model) endSpawn(r *rapid.T) {
	s := rapid.SampledFrom(m.spawns).Draw(r, "spawn")
	gaveBack := rapid.Bool().Draw(r, "gave back")
	if err := m.b.Store.SpawnEnded(m.ctx, s.id, store.SpawnEnd{Outcome: job.Exited, GaveBack: gaveBack}); err != nil {
		r.Fatalf("SpawnEnded: %v", err)
	}
	s.ended = true
	for _, l := range m.leases {
		switch {
		case l.spawn != s || l.ended:
		case gaveBack:
			l.giveBack()
		default:
			m.lose(l)
		}
	}
}

func (m *model) control(r *rapid.T) {
	j := rapid.SampledFrom(m.jobs).Draw(r, "job")
	going := map[bool]job.State{true: job.Running, false: job.Pending}[j.started]
	var err, want error
	switch rapid.SampledFrom([]string{"pause", "resume", "resume", "retry", "retry", "cancel"}).Draw(r, "verb") {
	case "pause":
		_, err = m.b.Store.Pause(m.ctx, j.id)
		if j.state.Terminal() {
			want = store.ErrState
			break
		}
		j.state = job.Paused
	case "resume":
		_, err = m.b.Store.Resume(m.ctx, j.id)
		if j.state.Terminal() {
			want = store.ErrState
			break
		}
		if j.state == job.Paused {
			j.state = going
		}
	case "retry":
		_, err = m.b.Store.Retry(m.ctx, j.id)
		if n := j.counts(); n.Dead+n.Skipped == 0 {
			want = store.ErrState
			break
		}
		for _, t := range j.tasks {
			if t.state == job.TaskDead || t.state == job.TaskSkipped {
				t.state, t.attempts = job.TaskOpen, 0
			}
		}
		if j.state.Terminal() {
			j.state = going
		}
	case "cancel":
		_, err = m.b.Store.Cancel(m.ctx, j.id)
		if j.state.Terminal() {
			break
		}
		j.state = job.Cancelled
		for _, t := range j.tasks {
			if t.state == job.TaskOpen || t.state == job.TaskLeased {
				t.state, t.held = job.TaskSkipped, nil
			}
		}
		for _, l := range m.leases {
			l.ended = l.ended || l.job == j
		}
	}
	m.wantErr(r, err, want)
}

func (j *modelJob) counts() job.Counts {
	n := job.Counts{Tasks: len(j.tasks), Places: len(j.places), Duplicates: j.duplicates}
	for _, t := range j.tasks {
		switch t.state {
		case job.TaskOpen:
			n.Open++
		case job.TaskLeased:
			n.Leased++
		case job.TaskDone:
			n.Done++
		case job.TaskDead:
			n.Dead++
		case job.TaskSkipped:
			n.Skipped++
		}
	}
	return n
}

// check compares the kept counts with a recount, the tasks with the model's, and the places with those that were acknowledged.
func (m *model) check(r *rapid.T) {
	for _, j := range m.jobs {
		head, err := m.b.Store.JobHead(m.ctx, j.id)
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(j.counts(), head.Counts); diff != "" {
			r.Fatalf("counts of job %s (-model +store):\n%s", j.id, diff)
		}
		if head.State != j.state {
			r.Fatalf("job %s is %s, want %s", j.id, head.State, j.state)
		}
		for i, task := range m.read(r, j) {
			got := modelTask{id: task.ID, state: task.State, cursor: string(task.Cursor), attempts: task.Attempts, crashes: task.Crashes}
			want := *j.tasks[i]
			want.held = nil
			if got != want {
				r.Fatalf("task: got %+v, want %+v", got, want)
			}
		}
		results, err := m.b.Store.Results(m.ctx, j.id, store.ResultFilter{Limit: 100})
		if err != nil {
			r.Fatal(err)
		}
		var keys []string
		for _, result := range results {
			keys = append(keys, result.Place.Key())
		}
		slices.Sort(keys)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(j.places)), keys); diff != "" {
			r.Fatalf("places of job %s (-model +store):\n%s", j.id, diff)
		}
	}
}

func (m *model) read(r *rapid.T, j *modelJob) []job.Task {
	tasks, err := m.b.Store.Tasks(m.ctx, j.id, store.TaskFilter{})
	if err != nil {
		r.Fatal(err)
	}
	return tasks
}

func (m *model) wantErr(r *rapid.T, err, want error) {
	if !errors.Is(err, want) {
		r.Fatalf("got error %v, want %v", err, want)
	}
}
