package test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	tclog "github.com/testcontainers/testcontainers-go/log"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// ledger is the submitter's own record: what the Manager acknowledged, and what must come of it.
type ledger struct {
	w  *world
	mu sync.Mutex
	// expected maps each acknowledged job to the made-up set that it covers.
	expected map[job.ID]string
}

func newLedger(w *world) *ledger { return &ledger{w: w, expected: map[job.ID]string{}} }

// submit creates a job that covers a whole set with shards tasks, and repeats until the Manager acknowledges it, as a careful client does.
func (l *ledger) submit(ctx context.Context, set string, shards int, change func(*api.NewJob)) (job.ID, error) {
	n := api.NewJob{Name: set, Lines: lines(set, shards), MaxAttempts: 100}
	if change != nil {
		change(&n)
	}
	key := rand.Text()
	for {
		j, err := l.w.client.Create(ctx, n, key)
		if err == nil {
			l.record(j.ID, set)
			return j.ID, nil
		}
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status < 500 {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *ledger) mustSubmit(set string, shards int, change func(*api.NewJob)) job.ID {
	l.w.t.Helper()
	ctx, cancel := context.WithTimeout(l.w.t.Context(), patience)
	defer cancel()
	id, err := l.submit(ctx, set, shards, change)
	if err != nil {
		l.w.t.Fatal(err)
	}
	return id
}

// jobs are those acknowledged until now.
func (l *ledger) jobs() map[job.ID]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.expected)
}

// balance waits until every acknowledged job is terminal and compares its places with those of its set. What was found goes into the table
// that the suite ends with: the fault was done so many times on this ground.
func (l *ledger) balance(fault string, times int) {
	t := l.w.t
	t.Helper()
	l.w.waitDrained()
	for id, set := range l.jobs() {
		if j := l.w.waitTerminal(id); j.State != job.Succeeded || j.Partial {
			t.Errorf("job %s (%s) ended %s, partial %v: %s", id, set, j.State, j.Partial, j.Reason)
		}
	}
	if row := l.count(fault, times); row.lost+row.doubled > 0 {
		t.Errorf("%d places lost, %d doubled in %d jobs", row.lost, row.doubled, row.jobs)
	}
}

// count compares all jobs' places with their sets as they are now, and adds a row to the table.
func (l *ledger) count(fault string, times int) tally {
	l.w.t.Helper()
	row := tally{fault: fault, ground: l.w.setup.ground, times: times, jobs: len(l.jobs())}
	for id, set := range l.jobs() {
		lost, doubled := l.compare(l.w.waitJob(id, "been read", func(job.Job) bool { return true }), set)
		row.lost += lost
		row.doubled += doubled
	}
	l.w.t.Logf("%s, %d times, %d jobs: %d lost, %d doubled", fault, times, row.jobs, row.lost, row.doubled)
	table.add(row)
	return row
}

// compare holds an ended job's rows against its set.
func (l *ledger) compare(j job.Job, set string) (lost, doubled int) {
	t := l.w.t
	t.Helper()
	got := l.w.places(j.ID)
	if len(got) != j.Counts.Places {
		t.Errorf("job %s has %d rows but counts %d places", j.ID, len(got), j.Counts.Places)
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(got)))
	want := l.w.truth(set)
	for _, key := range want {
		if _, found := slices.BinarySearch(distinct, key); !found {
			lost++
		}
	}
	if extra := len(distinct) - (len(want) - lost); extra > 0 {
		t.Errorf("job %s has %d places that are not in its set", j.ID, extra)
	}
	return lost, len(got) - len(distinct)
}

// tally is what a ledger found.
type tally struct {
	fault, ground              string
	times, jobs, lost, doubled int
}

// table is what all ledgers found, in the order of their ends.
var table tallies

type tallies struct {
	mu   sync.Mutex
	rows []tally
}

func (x *tallies) add(row tally) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rows = append(x.rows, row)
}

// print writes the table, and nothing if no fault was done.
func (x *tallies) print() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.rows) == 0 {
		return
	}
	slices.SortStableFunc(x.rows, func(a, b tally) int { return strings.Compare(a.fault+a.ground, b.fault+b.ground) })
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "\nfault\tground\truns\tjobs\tlost\tdoubled\n")
	for _, r := range x.rows {
		fmt.Fprintf(out, "%s\t%s\t%d\t%d\t%d\t%d\n", r.fault, r.ground, r.times, r.jobs, r.lost, r.doubled)
	}
	out.Flush()
}

func TestMain(m *testing.M) {
	tclog.SetDefault(tclog.NewNoopLogger())
	code := m.Run()
	table.print()
	os.Exit(code)
}
