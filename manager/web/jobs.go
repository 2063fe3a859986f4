package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

const (
	jobsPerPage   = 50
	eventsPerPage = 100
	spawnsShown   = 50
	tasksShown    = 100
)

// states are all states of a job, in the order of the filter.
func states() []job.State {
	return []job.State{job.Pending, job.Running, job.Paused, job.Succeeded, job.Failed, job.Cancelled}
}

// stateFilter is a chip that shows jobs of one state.
type stateFilter struct {
	State  job.State
	Count  int
	On     bool
	Target string // the page with this chip toggled
}

// jobsView is the body of the list of jobs.
type jobsView struct {
	Jobs    []job.Job
	Stats   api.Stats
	Live    int // workers that have not ended
	Filters []stateFilter
	States  []job.State // that are selected
	Search  string
	Older   string // address of the next page
	First   string // address of the first page; empty on it
}

// Filtered reports whether the list is less than all.
func (v jobsView) Filtered() bool { return v.Search != "" || len(v.States) > 0 }

func (d *dashboard) listJobs(w http.ResponseWriter, r *http.Request) {
	in := r.URL.Query()
	q := api.JobQuery{Search: strings.TrimSpace(in.Get("search")), Before: in.Get("before"), Limit: jobsPerPage}
	for _, s := range in["state"] {
		if slices.Contains(states(), job.State(s)) && !slices.Contains(q.States, job.State(s)) {
			q.States = append(q.States, job.State(s))
		}
	}
	list, err := d.api.Jobs(r.Context(), q)
	if err != nil {
		d.failWith(w, err)
		return
	}
	stats, err := d.api.Stats(r.Context())
	if err != nil {
		d.failWith(w, err)
		return
	}
	v := jobsView{Jobs: list.Jobs, Stats: stats, States: q.States, Search: q.Search}
	for s, n := range stats.Spawns {
		if s != job.SpawnEnded {
			v.Live += n
		}
	}
	for _, s := range states() {
		on := slices.Contains(q.States, s)
		toggled := slices.Clone(q.States)
		if on {
			toggled = slices.DeleteFunc(toggled, func(other job.State) bool { return other == s })
		} else {
			toggled = append(toggled, s)
		}
		v.Filters = append(v.Filters, stateFilter{s, stats.Jobs[s], on, jobsPage(toggled, q.Search, "")})
	}
	if list.Next != "" {
		v.Older = jobsPage(q.States, q.Search, list.Next)
	}
	if q.Before != "" {
		v.First = jobsPage(q.States, q.Search, "")
	}
	d.render(w, http.StatusOK, pageJobs, "Jobs", v)
}

// jobsPage is the address of a page of the list.
func jobsPage(states []job.State, search, before string) string {
	q := url.Values{}
	for _, s := range states {
		q.Add("state", string(s))
	}
	if search != "" {
		q.Set("search", search)
	}
	if before != "" {
		q.Set("before", before)
	}
	if len(q) == 0 {
		return "/"
	}
	return "/?" + q.Encode()
}

// jobView is the body of a job's page.
type jobView struct {
	Job        job.Job
	Events     []job.Event
	MoreEvents string // address of the page with later events
	Spawns     []job.Spawn
	MoreSpawns bool
	Dead       []job.Task
	MoreDead   bool
	Failure    *failure // of the action that led here
}

// Active reports whether the page must follow the job.
func (v jobView) Active() bool { return !v.Job.State.Terminal() }

// Retryable reports whether there are tasks to try again.
func (v jobView) Retryable() bool { return v.Job.Counts.Dead+v.Job.Counts.Skipped > 0 }

func (d *dashboard) showJob(w http.ResponseWriter, r *http.Request) { d.renderJob(w, r, nil) }

func (d *dashboard) renderJob(w http.ResponseWriter, r *http.Request, failed *failure) {
	ctx, id := r.Context(), job.ID(r.PathValue("id"))
	j, err := d.api.Job(ctx, id)
	if err != nil {
		d.failWith(w, err)
		return
	}
	v := jobView{Job: j, Failure: failed}
	events, err := d.api.Events(ctx, id, api.EventQuery{After: r.URL.Query().Get("events"), Limit: eventsPerPage})
	if err != nil {
		d.failWith(w, err)
		return
	}
	v.Events = events.Events
	if events.Next != "" {
		v.MoreEvents = jobPath(id) + "?" + url.Values{"events": {events.Next}}.Encode() + "#timeline"
	}
	spawns, err := d.api.Spawns(ctx, api.SpawnQuery{JobID: id, Limit: spawnsShown})
	if err != nil {
		d.failWith(w, err)
		return
	}
	v.Spawns, v.MoreSpawns = spawns.Spawns, spawns.Next != ""
	if j.Counts.Dead > 0 {
		tasks, err := d.api.Tasks(ctx, id, api.TaskQuery{States: []job.TaskState{job.TaskDead}, Limit: tasksShown})
		if err != nil {
			d.failWith(w, err)
			return
		}
		v.Dead, v.MoreDead = tasks.Tasks, tasks.Next != ""
	}
	status := http.StatusOK
	if failed != nil {
		status = failed.Status
	}
	d.render(w, status, pageJob, j.Spec.Name, v)
}

func jobPath(id job.ID) string { return "/jobs/" + url.PathEscape(string(id)) }

// changeJob does what a button of a job's page says.
func (d *dashboard) changeJob(w http.ResponseWriter, r *http.Request) {
	id := job.ID(r.PathValue("id"))
	target := jobPath(id)
	var err error
	switch r.PathValue("action") {
	case "cancel":
		_, err = d.api.Cancel(r.Context(), id)
	case "pause":
		_, err = d.api.Pause(r.Context(), id)
	case "resume":
		_, err = d.api.Resume(r.Context(), id)
	case "retry":
		_, err = d.api.Retry(r.Context(), id)
	case "delete":
		err = d.api.Delete(r.Context(), id)
		target = "/"
	default:
		d.fail(w, http.StatusNotFound, "There is no such action", "A job can be cancelled, paused, resumed, retried and deleted.")
		return
	}
	if err == nil {
		http.Redirect(w, r, target, http.StatusSeeOther)
		return
	}
	f := explain(err)
	if f.Status == http.StatusConflict {
		d.renderJob(w, r, &f)
		return
	}
	d.fail(w, f.Status, f.What, f.Mend)
}
