package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

func jobIDs(jobs []job.Job) []job.ID {
	var all []job.ID
	for _, j := range jobs {
		all = append(all, j.ID)
	}
	return all
}

var listClaims = []claim{
	{"jobs are listed newest first, page by page, while others are created", func(t *testing.T, b bench) {
		var made []job.ID
		for range 7 {
			made = append(made, b.create(t, shape{}).ID)
		}
		slices.Reverse(made)
		var seen []job.ID
		var before job.ID
		for {
			page := must[[]job.Job](t)(b.Store.Jobs(t.Context(), store.JobFilter{Before: before, Limit: 3}))
			if len(page) == 0 {
				break
			}
			seen = append(seen, jobIDs(page)...)
			before = seen[len(seen)-1]
			b.create(t, shape{}) // is newer than the page: it must not move what follows
		}
		if diff := cmp.Diff(made, seen); diff != "" {
			t.Errorf("jobs (-want +got):\n%s", diff)
		}
	}},
	{"jobs are filtered by states and by a part of the name, in any case", func(t *testing.T, b bench) {
		bars := b.create(t, shape{spec: job.Spec{Name: "Bars in ΛΕΜΕΣΟΣ 100%"}})
		cafes := b.create(t, shape{spec: job.Spec{Name: "Cafés"}})
		gone := b.create(t, shape{spec: job.Spec{Name: "Cafés, too"}})
		must[job.Job](t)(b.Store.Cancel(t.Context(), gone.ID))
		for _, c := range []struct {
			f    store.JobFilter
			want []job.ID
		}{
			{store.JobFilter{}, []job.ID{gone.ID, cafes.ID, bars.ID}},
			{store.JobFilter{States: []job.State{job.Cancelled, job.Pending}}, []job.ID{gone.ID, cafes.ID, bars.ID}},
			{store.JobFilter{States: []job.State{job.Pending, job.Pending}}, []job.ID{cafes.ID, bars.ID}},
			{store.JobFilter{States: []job.State{job.Failed}}, nil},
			{store.JobFilter{Search: "CAFÉ"}, []job.ID{gone.ID, cafes.ID}},
			{store.JobFilter{Search: "λεμεσο"}, []job.ID{bars.ID}},
			{store.JobFilter{Search: "0%"}, []job.ID{bars.ID}},
			{store.JobFilter{Search: "%"}, []job.ID{bars.ID}},
			{store.JobFilter{Search: "café", States: []job.State{job.Pending}}, []job.ID{cafes.ID}},
			{store.JobFilter{States: []job.State{job.Cancelled, job.Pending}, Limit: 2}, []job.ID{gone.ID, cafes.ID}},
		} {
			got := jobIDs(must[[]job.Job](t)(b.Store.Jobs(t.Context(), c.f)))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", c.f, diff)
			}
		}
	}},
	{"tasks are listed in id order, page by page, by states", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 7})
		b.grant(t, b.standing(t, "n"), 3)
		all := ids(b.tasks(t, j.ID))
		want(t, "sorted", slices.IsSorted(all), true)
		page := must[[]job.Task](t)(b.Store.Tasks(t.Context(), j.ID, store.TaskFilter{After: all[1], Limit: 3}))
		if diff := cmp.Diff(all[2:5], ids(page)); diff != "" {
			t.Errorf("page (-want +got):\n%s", diff)
		}
		leased := must[[]job.Task](t)(b.Store.Tasks(t.Context(), j.ID, store.TaskFilter{States: []job.TaskState{job.TaskLeased}}))
		if diff := cmp.Diff(all[:3], ids(leased)); diff != "" {
			t.Errorf("leased (-want +got):\n%s", diff)
		}
	}},
	{"results are listed in the order of storing while more are stored", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 2})
		j := b.create(t, shape{tasks: 1, spec: job.Spec{Priority: 1}})
		w := b.standing(t, "n")
		l, other := b.grant(t, w, 1), b.grant(t, w, 1)
		var stored []string
		store5 := func(from int) {
			for i := range 5 {
				p := place(from + i)
				b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, from+i)})
				b.submit(t, other.Fence, job.Batch{Places: found(other.Tasks[0].ID, from+i)})
				stored = append(stored, p.Key())
			}
		}
		store5(0)
		var seen []string
		after := int64(0)
		for page := 0; ; page++ {
			got := b.results(t, j.ID, store.ResultFilter{After: after, Limit: 2})
			if len(got) == 0 {
				break
			}
			for _, r := range got {
				want(t, "grows", r.Seq > after, true)
				after = r.Seq
				seen = append(seen, r.Place.Key())
			}
			if page == 1 {
				store5(100)
			}
		}
		if diff := cmp.Diff(stored, seen); diff != "" {
			t.Errorf("results (-stored +listed):\n%s", diff)
		}
	}},
	{"results are filtered by all conditions together", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		l := b.grant(t, b.standing(t, "n"), 1)
		yes, no := true, false
		town := []gmaps.Place{
			{DataID: "0x1:0x1", Title: "Ποτό", Categories: []string{"Bar", "Café"}, Rating: 4.5, Address: "1 Main St", Website: "http://poto.example", Phone: "25 123", AddressParts: gmaps.AddressParts{City: "Limassol", CountryCode: "CY"}},
			{DataID: "0x2:0x2", Title: "Café 100%", Categories: []string{"Café"}, Rating: 3.5, Phone: "25 456", AddressParts: gmaps.AddressParts{City: "Limassol", CountryCode: "CY"}},
			{DataID: "0x3:0x3", Title: "Bar Lisboa", Categories: []string{"Bar"}, Rating: 4.9, AddressParts: gmaps.AddressParts{City: "Lisboa", CountryCode: "PT"}},
		}
		for _, p := range town {
			b.submit(t, l.Fence, job.Batch{Places: []job.Found{{TaskID: l.Tasks[0].ID, Place: p}}})
		}
		for _, c := range []struct {
			f    store.ResultFilter
			want string
		}{
			{store.ResultFilter{}, "[0x1:0x1 0x2:0x2 0x3:0x3]"},
			{store.ResultFilter{Search: "ΠΟΤΌ"}, "[0x1:0x1]"},
			{store.ResultFilter{Search: "main st"}, "[0x1:0x1]"},
			{store.ResultFilter{Search: "25 4"}, "[0x2:0x2]"},
			{store.ResultFilter{Search: "poto.EXAMPLE"}, "[0x1:0x1]"},
			{store.ResultFilter{Search: "%"}, "[0x2:0x2]"},
			{store.ResultFilter{Search: "bar"}, "[0x1:0x1 0x3:0x3]"},
			{store.ResultFilter{Category: "bar"}, "[0x1:0x1 0x3:0x3]"},
			{store.ResultFilter{MinRating: 4.5}, "[0x1:0x1 0x3:0x3]"},
			{store.ResultFilter{City: "limassol"}, "[0x1:0x1 0x2:0x2]"},
			{store.ResultFilter{Country: "pt"}, "[0x3:0x3]"},
			{store.ResultFilter{Website: &yes}, "[0x1:0x1]"},
			{store.ResultFilter{Website: &no, Phone: &yes}, "[0x2:0x2]"},
			{store.ResultFilter{Phone: &no}, "[0x3:0x3]"},
			{store.ResultFilter{City: "Limassol", MinRating: 4}, "[0x1:0x1]"},
			{store.ResultFilter{Category: "bar", Limit: 1}, "[0x1:0x1]"},
		} {
			var keys []string
			for _, r := range b.results(t, j.ID, c.f) {
				keys = append(keys, r.Place.DataID)
			}
			want(t, fmt.Sprintf("%+v", c.f), fmt.Sprint(keys), c.want)
		}
	}},
	{"events are listed in order after the cursor", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{})
		b.create(t, shape{})
		must[job.Job](t)(b.Store.Pause(ctx, j.ID))
		must[job.Job](t)(b.Store.Resume(ctx, j.ID))
		must[job.Job](t)(b.Store.Cancel(ctx, j.ID))
		var kinds []job.EventKind
		after := int64(0)
		for {
			page := must[[]job.Event](t)(b.Store.Events(ctx, j.ID, after, 2))
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				want(t, "grows", e.ID > after, true)
				want(t, "job", e.JobID, j.ID)
				want(t, "has a text", e.Text != "" && !e.At.IsZero(), true)
				after = e.ID
				kinds = append(kinds, e.Kind)
			}
		}
		if diff := cmp.Diff([]job.EventKind{job.EventCreated, job.EventPaused, job.EventResumed, job.EventEnded}, kinds); diff != "" {
			t.Errorf("kinds (-want +got):\n%s", diff)
		}
	}},
	{"spawns are listed newest first, by job, backend, life and end", func(t *testing.T, b bench) {
		ctx := t.Context()
		first, second := b.create(t, shape{}), b.create(t, shape{})
		s := b.plan(t, store.Plan{})
		standing := b.standing(t, "n")
		wantErr(t, b.Store.SpawnEnded(ctx, s[0].ID, store.SpawnEnd{Outcome: job.Exited}), nil)
		ended := b.spawn(t, s[0].ID).EndedAt
		for _, c := range []struct {
			f    store.SpawnFilter
			want []job.SpawnID
		}{
			{store.SpawnFilter{}, []job.SpawnID{standing, s[1].ID, s[0].ID}},
			{store.SpawnFilter{JobID: first.ID}, []job.SpawnID{s[0].ID}},
			{store.SpawnFilter{JobID: second.ID}, []job.SpawnID{s[1].ID}},
			{store.SpawnFilter{Backend: "none"}, []job.SpawnID{standing}},
			{store.SpawnFilter{Live: true}, []job.SpawnID{standing, s[1].ID}},
			{store.SpawnFilter{Live: true, Backend: "process"}, []job.SpawnID{s[1].ID}},
			{store.SpawnFilter{EndedSince: ended}, []job.SpawnID{s[0].ID}},
			{store.SpawnFilter{EndedSince: ended.Add(time.Second)}, nil},
			{store.SpawnFilter{Before: s[1].ID}, []job.SpawnID{s[0].ID}},
			{store.SpawnFilter{Limit: 1}, []job.SpawnID{standing}},
		} {
			var got []job.SpawnID
			for _, spawn := range must[[]job.Spawn](t)(b.Store.Spawns(ctx, c.f)) {
				got = append(got, spawn.ID)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", c.f, diff)
			}
		}
	}},
	{"a caller that has gone away gets its context's error", func(t *testing.T, b bench) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Store.Jobs(ctx, store.JobFilter{})
		wantErr(t, err, context.Canceled)
		_, _, err = b.Store.CreateJob(ctx, newJob(shape{}))
		wantErr(t, err, context.Canceled)
		want(t, "jobs", len(must[[]job.Job](t)(b.Store.Jobs(t.Context(), store.JobFilter{}))), 0)
	}},
}
