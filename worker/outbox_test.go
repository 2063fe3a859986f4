package worker

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// TestPagesLeaveInTheOrderInWhichTheyCame puts and takes at random over memory and disk.
func TestPagesLeaveInTheOrderInWhichTheyCame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBudget(rapid.Int64Range(1, 50_000).Draw(rt, "memory"), rapid.Int64Range(0, 20_000).Draw(rt, "disk"))
		o := newOutbox(Config{FlushPlaces: rapid.IntRange(1, 10).Draw(rt, "flush"), SpoolDir: dir}, b, func(err error) { rt.Fatal(err) })
		put, taken := 0, 0
		check := func(pages []page) {
			for _, p := range pages {
				if got := string(p.Step.Cursor); got != strconv.Itoa(taken) {
					rt.Fatalf("page %s came as number %d", got, taken)
				}
				taken++
			}
		}
		take := func() {
			o.mu.Lock()
			pages, held, err := o.take()
			o.mu.Unlock()
			if err != nil {
				rt.Fatal(err)
			}
			check(pages)
			o.done(held)
		}
		for _, isPut := range rapid.SliceOfN(rapid.Bool(), 0, 200).Draw(rt, "steps") {
			if !isPut {
				take()
				continue
			}
			p := page{Step: job.TaskStep{TaskID: 1, Cursor: gmaps.Cursor(strconv.Itoa(put))}, Places: make([]job.Found, put%4)}
			if o.tryPut(p) {
				put++
			} else if taken == put {
				rt.Fatal("an empty outbox took nothing")
			}
		}
		for taken < put {
			take()
		}
		if b.memory != 0 || b.disk != 0 || o.waiting != 0 {
			rt.Fatalf("empty, but %d bytes of memory, %d of disk and %d places are held", b.memory, b.disk, o.waiting)
		}
		o.drop()
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
}

func TestDropGivesAllRoomBack(t *testing.T) {
	t.Parallel()
	b := newBudget(5_000, 1<<20)
	o := newOutbox(Config{FlushPlaces: 1, SpoolDir: t.TempDir()}, b, func(err error) { t.Error(err) })
	for i := range 10 {
		if !o.tryPut(page{Step: job.TaskStep{TaskID: job.TaskID(i)}, Places: make([]job.Found, 1)}) {
			t.Fatal("there was room")
		}
	}
	if b.disk == 0 {
		t.Fatal("nothing went to the disk")
	}
	o.drop()
	if b.memory != 0 || b.disk != 0 {
		t.Errorf("%d and %d bytes are still held", b.memory, b.disk)
	}
}

func TestComposeKeepsTheLastStepOfEachTask(t *testing.T) {
	t.Parallel()
	place := func(task job.TaskID, n int) job.Found {
		return job.Found{TaskID: task, Place: gmaps.Place{DataID: fmt.Sprint(n)}}
	}
	pages := []page{
		{Places: []job.Found{place(1, 0)}, Step: job.TaskStep{TaskID: 1, Cursor: "a"}},
		{Places: []job.Found{place(2, 1)}, Step: job.TaskStep{TaskID: 2, Cursor: "a"}},
		{Places: []job.Found{place(3, 2)}, Step: job.TaskStep{TaskID: 3, Done: true}},
		{Places: []job.Found{place(1, 3)}, Step: job.TaskStep{TaskID: 1, Done: true, Saturated: true}},
		{Step: job.TaskStep{TaskID: 2, Error: "x"}},
	}
	got := compose(pages, func(id job.TaskID) bool { return id == 3 })
	want := job.Batch{
		Places: []job.Found{place(1, 0), place(2, 1), place(1, 3)},
		Tasks:  []job.TaskStep{{TaskID: 1, Done: true, Saturated: true}, {TaskID: 2, Error: "x"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
