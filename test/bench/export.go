package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
	"gmaps-scraper/store/sqlite"
)

// The exports that benchExport compares.
const (
	fewResults  = 10_000
	manyResults = 1_000_000
)

// benchExport is B10: an export's peak memory must not follow its length. It goes all the way: database, Manager, HTTP handler, client.
func benchExport(ctx context.Context, rounds int) (_ result, err error) {
	dir, err := os.MkdirTemp("", "bench-export-")
	if err != nil {
		return result{}, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := sqlite.Open(ctx, filepath.Join(dir, "bench.db"), sqlite.Config{})
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	start := time.Now()
	few, err := fillJob(ctx, s, fewResults)
	if err != nil {
		return result{}, err
	}
	many, err := fillJob(ctx, s, manyResults)
	if err != nil {
		return result{}, err
	}
	filled := time.Since(start)

	m, err := manager.New(ctx, manager.Config{Store: s, Open: true})
	if err != nil {
		return result{}, err
	}
	client, err := api.NewClient("http://bench", "", api.InProcess(m.Handler()))
	if err != nil {
		return result{}, err
	}
	if _, err := exportJob(ctx, client, few, fewResults); err != nil { // what both allocate once
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	peaks := ratio{name: "peak memory", goal: atMost(1.2)}
	var a, b exported
	for range rounds {
		if b, err = exportJob(ctx, client, few, fewResults); err != nil {
			return result{}, fmt.Errorf("baseline: %w", err)
		}
		if a, err = exportJob(ctx, client, many, manyResults); err != nil {
			return result{}, err
		}
		peaks.samples = append(peaks.samples, float64(a.peak)/float64(b.peak))
	}
	return result{
		ratios: []ratio{peaks},
		notes: []string{
			fmt.Sprintf("last round: %d MB while %d results went out as %d MB in %v ÷ %d MB while %d did", a.peak>>20, manyResults, a.bytes>>20, a.took.Round(time.Millisecond), b.peak>>20, fewResults),
			fmt.Sprintf("memory: %s; filling the store took %v", memoryKind(), filled.Round(time.Second)),
		},
	}, nil
}

// fillJob makes a job that has so many results and has ended.
func fillJob(ctx context.Context, s store.Store, results int) (job.ID, error) {
	spec := job.Spec{Inputs: []job.Input{{Text: "coffee"}}}
	if err := spec.Validate(); err != nil {
		return "", err
	}
	tasks, err := spec.Tasks()
	if err != nil {
		return "", err
	}
	j, _, err := s.CreateJob(ctx, store.NewJob{ID: job.NewID(), Spec: spec, Tasks: tasks})
	if err != nil {
		return "", err
	}
	worker, err := s.JoinStanding(ctx, "nonce-of-"+string(j.ID), 1)
	if err != nil {
		return "", err
	}
	lease, err := s.Grant(ctx, worker.ID, 1, time.Hour)
	if err != nil {
		return "", err
	}
	task := lease.Tasks[0].ID
	const batch = 1000
	for from := 0; from < results; from += batch {
		b := job.Batch{Places: make([]job.Found, 0, batch)}
		for i := from; i < min(from+batch, results); i++ {
			b.Places = append(b.Places, job.Found{TaskID: task, Place: numberedPlace(i)})
		}
		if _, err := s.Submit(ctx, lease.Fence, b); err != nil {
			return "", err
		}
	}
	_, err = s.Submit(ctx, lease.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: task, Done: true}}})
	return j.ID, err
}

// numberedPlace is a place as a listing gives it.
func numberedPlace(i int) gmaps.Place {
	n := strconv.Itoa(i)
	return gmaps.Place{
		DataID: "0x1:0x" + strconv.FormatInt(int64(i), 16), CID: n, PlaceID: "ChIJ" + n, Title: "Coffee house " + n, Categories: []string{"Coffee shop", "Bakery"},
		Address: n + " Main Street, 3011 Limassol", AddressParts: gmaps.AddressParts{Street: n + " Main Street", City: "Limassol", PostalCode: "3011", CountryCode: "CY"},
		Location: &gmaps.Point{Lat: 34 + float64(i%1000)/1000, Lng: 33 + float64(i/1000)/1000}, Phone: "+357 25 " + n, Website: "https://coffee" + n + ".example/",
		Rating: 4.5, ReviewCount: i, Hours: []gmaps.DayHours{{Weekday: 1, Name: "Monday", Text: []string{"8 am–8 pm"}, Open: []gmaps.Interval{{OpenMinute: 480, CloseMinute: 1200}}}},
	}
}

// exported is what one export took.
type exported struct {
	peak  uint64 // bytes of memory of this process
	bytes int64  // of the file
	took  time.Duration
}

// exportJob downloads a job's results as CSV and counts their lines: an export that lost some is no export.
func exportJob(ctx context.Context, client *api.Client, id job.ID, results int) (out exported, err error) {
	debug.FreeOSMemory() // neither side pays for the other's garbage
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { out.peak = peakMemory(done) })
	start := time.Now()
	var lines lineCounter
	out.bytes, err = download(ctx, client, id, &lines)
	out.took = time.Since(start)
	close(done)
	watch.Wait()
	if err == nil && lines.n != results+1 {
		err = fmt.Errorf("the file has %d lines, want a header and %d", lines.n, results)
	}
	return out, err
}

func download(ctx context.Context, client *api.Client, id job.ID, to io.Writer) (int64, error) {
	body, err := client.Export(ctx, id, "csv", nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(to, body)
}

type lineCounter struct{ n int }

func (c *lineCounter) Write(b []byte) (int, error) {
	c.n += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

// peakMemory looks every other millisecond until done.
func peakMemory(done <-chan struct{}) (peak uint64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		peak = max(peak, memory())
		select {
		case <-done:
			return peak
		case <-tick.C:
		}
	}
}

const statm = "/proc/self/statm"

func memoryKind() string {
	if _, err := os.Stat(statm); err != nil {
		return "of the Go runtime, since there is no " + statm
	}
	return "resident pages of the process, the database's too"
}

// memory is the resident size of this process, or where the system does not tell, what the Go runtime holds.
func memory() uint64 {
	if b, err := os.ReadFile(statm); err == nil {
		var size, resident uint64
		if _, err := fmt.Sscan(string(b), &size, &resident); err == nil {
			return resident * uint64(os.Getpagesize())
		}
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
