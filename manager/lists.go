package manager

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

func (m *Manager) registerLists(a huma.API) {
	handle(m, a, operation("jobs", "listJobs", http.MethodGet, api.PathJobs, "List jobs, newest first, without their inputs"), m.listJobs)
	handle(m, a, operation("jobs", "listTasks", http.MethodGet, api.PathTasks, "List a job's tasks"), m.listTasks)
	handle(m, a, operation("jobs", "listEvents", http.MethodGet, api.PathEvents, "Show a job's timeline"), m.listEvents)
	handle(m, a, operation("spawns", "listSpawns", http.MethodGet, api.PathSpawns, "List workers, newest first"), m.listSpawns)
	handle(m, a, operation("spawns", "getSpawn", http.MethodGet, api.PathSpawn, "Show a worker: how it ended, and the tail of its log"), m.getSpawn)
	handle(m, a, operation("jobs", "getStats", http.MethodGet, api.PathStats, "Show sums over all jobs"), m.getStats)
}

// page cuts the one row off that was asked for only to learn whether there is a next page, and returns the key of that page.
func page[T any](rows []T, limit int, key func(T) string) ([]T, string) {
	if rows == nil {
		rows = []T{} // a list in JSON, not null
	}
	if len(rows) <= limit {
		return rows, ""
	}
	rows = rows[:limit]
	return rows, key(rows[limit-1])
}

type jobsInput struct {
	States []job.State `query:"state,explode" maxItems:"6" doc:"only jobs in these states; repeat it for several"`
	Search string      `query:"search" maxLength:"200" doc:"part of the name"`
	Before string      `query:"before" maxLength:"64" doc:"next of the page before"`
	Limit  int         `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type jobsAnswer struct{ Body api.JobPage }

func (m *Manager) listJobs(ctx context.Context, in *jobsInput) (*jobsAnswer, error) {
	if err := plainParams("search", in.Search, "before", in.Before); err != nil {
		return nil, err
	}
	jobs, err := m.store.Jobs(ctx, store.JobFilter{States: in.States, Search: in.Search, Before: job.ID(in.Before), Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	var out jobsAnswer
	out.Body.Jobs, out.Body.Next = page(jobs, in.Limit, func(j job.Job) string { return string(j.ID) })
	return &out, nil
}

type tasksInput struct {
	JobPath
	States []job.TaskState `query:"state,explode" maxItems:"5" doc:"only tasks in these states; repeat it for several"`
	After  int64           `query:"after" minimum:"0" doc:"next of the page before"`
	Limit  int             `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type tasksAnswer struct{ Body api.TaskPage }

func (m *Manager) listTasks(ctx context.Context, in *tasksInput) (*tasksAnswer, error) {
	if _, err := m.store.JobHead(ctx, job.ID(in.ID)); err != nil {
		return nil, err
	}
	tasks, err := m.store.Tasks(ctx, job.ID(in.ID), store.TaskFilter{States: in.States, After: job.TaskID(in.After), Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	var out tasksAnswer
	out.Body.Tasks, out.Body.Next = page(tasks, in.Limit, func(t job.Task) string { return strconv.FormatInt(int64(t.ID), 10) })
	return &out, nil
}

type eventsInput struct {
	JobPath
	After int64 `query:"after" minimum:"0" doc:"next of the page before"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type eventsAnswer struct{ Body api.EventPage }

func (m *Manager) listEvents(ctx context.Context, in *eventsInput) (*eventsAnswer, error) {
	if _, err := m.store.JobHead(ctx, job.ID(in.ID)); err != nil {
		return nil, err
	}
	events, err := m.store.Events(ctx, job.ID(in.ID), in.After, in.Limit+1)
	if err != nil {
		return nil, err
	}
	var out eventsAnswer
	out.Body.Events, out.Body.Next = page(events, in.Limit, func(e job.Event) string { return strconv.FormatInt(e.ID, 10) })
	return &out, nil
}

type spawnsInput struct {
	Job    string `query:"job" maxLength:"64" doc:"only workers of this job"`
	Live   bool   `query:"live" doc:"only workers that have not ended"`
	Before string `query:"before" maxLength:"64" doc:"next of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type spawnsAnswer struct{ Body api.SpawnPage }

func (m *Manager) listSpawns(ctx context.Context, in *spawnsInput) (*spawnsAnswer, error) {
	if err := plainParams("job", in.Job, "before", in.Before); err != nil {
		return nil, err
	}
	spawns, err := m.store.Spawns(ctx, store.SpawnFilter{JobID: job.ID(in.Job), Live: in.Live, Before: job.SpawnID(in.Before), Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	var out spawnsAnswer
	out.Body.Spawns, out.Body.Next = page(spawns, in.Limit, func(s job.Spawn) string { return string(s.ID) })
	return &out, nil
}

type spawnPath struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" doc:"the spawn's id"`
}

type spawnAnswer struct{ Body job.Spawn }

func (m *Manager) getSpawn(ctx context.Context, in *spawnPath) (*spawnAnswer, error) {
	s, err := m.store.Spawn(ctx, job.SpawnID(in.ID))
	if err != nil {
		return nil, err
	}
	return &spawnAnswer{s}, nil
}

type statsAnswer struct{ Body api.Stats }

func (m *Manager) getStats(ctx context.Context, _ *struct{}) (*statsAnswer, error) {
	s, err := m.store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return &statsAnswer{api.Stats{
		Jobs: s.Jobs, Tasks: s.Tasks, Spawns: s.Spawns, Results: s.Results,
		Backend: m.backend(), Breaker: m.rec.Status().Breaker, Version: m.cfg.Version, Since: m.started,
	}}, nil
}

// plainParams refuses query parameters, given as name and value by turns, that no stored text can match.
func plainParams(namesAndValues ...string) error {
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if !plainText(namesAndValues[i+1]) {
			return invalid("query."+namesAndValues[i], "holds a NUL or another control character")
		}
	}
	return nil
}
