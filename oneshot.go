package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/cache"
	"gmaps-scraper/export"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/wakeup"
	"gmaps-scraper/worker"
)

const (
	resultPage     = 500                    // rows fetched at a time
	pollInterval   = 250 * time.Millisecond // between looks at the job
	reportInterval = 5 * time.Second        // between plain progress lines
)

var errInactive = errors.New("nothing new came")

// oneShot runs Manager and worker in this process until the job of -input has ended, and writes its rows as they come.
func (p program) oneShot(ctx context.Context, c *config) error {
	inputs, err := p.readInputs(c)
	if err != nil {
		return err
	}
	if c.quarantineDir == "" && c.results != "-" {
		c.quarantineDir = filepath.Join(filepath.Dir(c.results), "quarantine")
	}
	if !c.set["log-level"] {
		c.logLevel = "warn" // the progress and the summary tell the rest
	}
	log := p.logger(c)
	engine, err := c.newEngine(nil, log)
	if err != nil {
		return err
	}
	state, err := openState(c)
	if err != nil {
		return err
	}
	defer state.close()
	out, err := p.openResults(c)
	if err != nil {
		return err
	}

	st, err := sqlite.Open(ctx, filepath.Join(state.dir, "gmaps.db"), sqlite.Config{})
	if err != nil {
		return err
	}
	defer st.Close()
	m, err := manager.New(ctx, manager.Config{Store: st, Bell: &wakeup.Memory{}, Logger: log, Open: true, LeaseTTL: c.leaseTTL, Version: version})
	if err != nil {
		return err
	}
	client, err := api.NewClient("http://one-shot", "", api.InProcess(m.Handler()))
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{
		Source: client, Engine: engine, Concurrency: c.concurrency, Standing: true, SpoolDir: state.dir, Version: version, Logger: log,
		Seen: &cache.Memory{},
	})
	if err != nil {
		return err
	}

	// The Manager and the client outlive the worker: it hands back through them.
	managerCtx, stopManager := context.WithCancel(context.WithoutCancel(ctx))
	defer stopManager()
	workerCtx, stopWorker := context.WithCancel(ctx)
	defer stopWorker()
	follow := follower{client: client, out: out, report: p.newReport(c), inactivity: c.exitOnInactivity}

	id, err := startJob(managerCtx, client, c, inputs)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return m.Run(managerCtx) })
	g.Go(func() error {
		defer stopManager()
		var workers errgroup.Group
		workers.Go(func() error {
			defer stopWorker() // a worker that is refused ends the waiting for its rows
			return w.Run(workerCtx)
		})
		ended, followErr := follow.run(workerCtx, id)
		stopWorker()
		workErr := workers.Wait()
		// What was found while the worker drained is still to be written.
		last, err := follow.finish(managerCtx, id)
		state.done = ended && last.State == job.Succeeded && last.Counts.Dead == 0
		follow.report.summary(last, ended, state)
		switch {
		case err != nil:
			return err
		case followErr != nil:
			return followErr
		case !ended && ctx.Err() != nil:
			return ctx.Err()
		case workErr != nil:
			return workErr
		case !ended || last.State != job.Succeeded || last.Counts.Dead > 0:
			return errIncomplete
		}
		return nil
	})
	return g.Wait()
}

// readInputs reads -input. Its faults name the line.
func (p program) readInputs(c *config) ([]job.Input, error) {
	r := p.stdin
	if c.input != "-" {
		f, err := os.Open(c.input)
		if err != nil {
			return nil, usagef("-input: %v", err)
		}
		defer f.Close()
		r = f
	}
	inputs, err := job.ReadInputs(r)
	if err != nil {
		return nil, usagef("-input %s: %v", c.input, err)
	}
	if len(inputs) == 0 {
		return nil, usagef("-input %s: holds no query", c.input)
	}
	return inputs, nil
}

// runState is the folder that remembers a one shot, so that -resume can go on.
type runState struct {
	dir  string
	keep bool // beside -results; else a temporary folder
	done bool // nothing is left to resume
}

// openState finds or makes the state beside -results. It refuses to overwrite an interrupted run without -resume.
func openState(c *config) (*runState, error) {
	if c.results == "-" && c.dataDir == "" {
		if c.resume {
			return nil, usagef("-resume: needs -results FILE or -data-dir: with neither nothing was kept")
		}
		dir, err := os.MkdirTemp("", "gmaps-scraper-")
		if err != nil {
			return nil, fmt.Errorf("make state folder: %w", err)
		}
		return &runState{dir: dir}, nil
	}
	// A folder of its own, since all of it is removed when nothing is left to resume.
	dir, mkdir := filepath.Join(c.dataDir, "one-shot"), os.MkdirAll
	if c.dataDir == "" {
		dir, mkdir = filepath.Join(filepath.Dir(c.results), "."+filepath.Base(c.results)+".state"), os.Mkdir
	}
	if _, err := os.Stat(filepath.Dir(c.results)); err != nil {
		return nil, usagef("-results: %v", err)
	}
	_, err := os.Stat(filepath.Join(dir, "gmaps.db"))
	switch {
	case err == nil && !c.resume:
		return nil, usagef("-results: an interrupted run for it lies in %s: go on with -resume, or delete that folder", dir)
	case err != nil && c.resume:
		return nil, usagef("-resume: there is no interrupted run in %s", dir)
	}
	if err := mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, usagef("-results: %v", err)
	}
	return &runState{dir: dir, keep: true}, nil
}

// close removes the state of a run that has nothing left to resume, or that never began.
func (s *runState) close() {
	if s.done || !s.keep {
		_ = os.RemoveAll(s.dir)
		return
	}
	_ = os.Remove(s.dir) // succeeds only on an empty folder
}

// rows is the open results: the format's writer over the file.
type rows struct {
	export.Writer
	file io.Closer
}

// openResults opens -results before any work begins. A resumed run writes its rows anew from the state, so that none is torn or doubled.
func (p program) openResults(c *config) (*rows, error) {
	format := c.format
	if c.json {
		format = "json"
	}
	ext := strings.TrimPrefix(filepath.Ext(c.results), ".")
	if format == "" && slices.Contains(export.Formats(), ext) {
		format = ext
	}
	if format == "" {
		format = "csv"
	}
	var columns []string
	if c.csvColumns != "" {
		columns = strings.Split(c.csvColumns, ",")
	}
	// A wrong column must not cost the rows of an earlier run.
	options := export.Options{Columns: columns}
	if probe, err := export.New(format, io.Discard, options); err != nil {
		return nil, usagef("-csv-columns: %v", err)
	} else if err := probe.Close(); err != nil {
		return nil, err
	}
	var file io.WriteCloser = nopCloser{p.stdout}
	if c.results != "-" {
		f, err := os.Create(c.results)
		if err != nil {
			return nil, usagef("-results: %v", err)
		}
		file = f
	}
	w, err := export.New(format, file, options)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &rows{w, file}, nil
}

func (r *rows) Close() error { return errors.Join(r.Writer.Close(), r.file.Close()) }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// startJob makes the job, or finds that of the interrupted run and opens what had failed in it.
func startJob(ctx context.Context, client *api.Client, c *config, inputs []job.Input) (job.ID, error) {
	n := c.newJob(inputs)
	body, err := json.Marshal(n)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(body)
	// The key makes a resumed run find its job, and a changed query be refused.
	j, err := client.Create(ctx, n, "one-shot")
	if err != nil {
		var problem *api.Problem
		if c.resume && errors.As(err, &problem) && problem.Status == 422 {
			return "", usagef("-resume: the interrupted run had other queries or options (these are %s): give the same ones, or delete its state folder", hex.EncodeToString(sum[:4]))
		}
		return "", err
	}
	if j.State.Terminal() && j.Counts.Dead > 0 {
		j, err = client.Retry(ctx, j.ID)
	}
	return j.ID, err
}

// follower writes a job's rows as they are stored.
type follower struct {
	client     *api.Client
	out        *rows
	report     *report
	inactivity time.Duration
	written    int64 // Seq of the last row written
	count      int
}

// run follows the job until it is terminal (true), ctx ends, or nothing new came for the time of inactivity.
func (f *follower) run(ctx context.Context, id job.ID) (bool, error) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	lastNews, seen := time.Now(), -1
	for {
		j, err := f.client.Job(ctx, id)
		if err == nil {
			err = f.drain(ctx, id)
		}
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		f.report.progress(j)
		if j.State.Terminal() {
			return true, nil
		}
		if n := j.Counts.Places + j.Counts.Done; n != seen {
			lastNews, seen = time.Now(), n
		} else if f.inactivity > 0 && time.Since(lastNews) >= f.inactivity {
			return false, fmt.Errorf("%w for %s (-exit-on-inactivity): go on with -resume", errInactive, f.inactivity)
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-tick.C:
		}
	}
}

// drain writes all rows that are stored and not written yet.
func (f *follower) drain(ctx context.Context, id job.ID) error {
	for {
		page, err := f.client.Results(ctx, id, api.ResultQuery{After: f.written, Limit: resultPage})
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		for _, r := range page.Results {
			if err := f.out.Write(export.Row{InputID: r.InputID, Place: r.Place}); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
			f.written = r.Seq
			f.count++
		}
		if len(page.Results) > 0 {
			if err := f.out.Flush(); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
		if len(page.Results) < resultPage {
			return nil
		}
	}
}

// finish writes the last rows and closes the file, whatever happened before.
func (f *follower) finish(ctx context.Context, id job.ID) (job.Job, error) {
	err := f.drain(ctx, id)
	closeErr := f.out.Close()
	j, jobErr := f.client.Job(ctx, id)
	return j, errors.Join(err, closeErr, jobErr)
}

// report tells a person how far the job is: a bar on a terminal, lines elsewhere.
type report struct {
	w       io.Writer
	bar     *progressbar.ProgressBar
	started time.Time
	last    time.Time
	results string
}

func (p program) newReport(c *config) *report {
	r := &report{w: p.stderr, started: time.Now(), results: c.results}
	if isTerminal(p.stderr) {
		r.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(pollInterval), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
	}
	return r
}

func (r *report) progress(j job.Job) {
	n := j.Counts
	if r.bar != nil {
		r.bar.ChangeMax(max(n.Tasks, 1))
		r.bar.Describe(fmt.Sprintf("%d places", n.Places))
		_ = r.bar.Set(n.Done + n.Dead + n.Skipped)
		return
	}
	if now := time.Now(); now.Sub(r.last) >= reportInterval {
		if !r.last.IsZero() {
			fmt.Fprintf(r.w, "%d of %d searches, %d places\n", n.Done+n.Dead+n.Skipped, n.Tasks, n.Places)
		}
		r.last = now
	}
}

func (r *report) summary(j job.Job, ended bool, state *runState) {
	if r.bar != nil {
		_ = r.bar.Finish()
	}
	n, took := j.Counts, time.Since(r.started)
	fmt.Fprintf(r.w, "%d places (%d found more than once), %d of %d searches done, %d failed, in %s (%.0f places/min)\n",
		n.Places, n.Duplicates, n.Done, n.Tasks, n.Dead, took.Round(100*time.Millisecond), float64(n.Places)/took.Minutes())
	if r.results != "-" {
		fmt.Fprintf(r.w, "rows are in %s\n", r.results)
	}
	if j.Reason != "" {
		fmt.Fprintf(r.w, "%s: %s\n", j.State, j.Reason)
	}
	if state.keep && !state.done && (!ended || n.Dead > 0) {
		fmt.Fprintf(r.w, "incomplete: the same command with -resume goes on from here\n")
	}
}
