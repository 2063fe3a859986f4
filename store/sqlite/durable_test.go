package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/sqlite"
)

// childDatabase names the database that a child process of these tests writes to.
const childDatabase = "SQLITE_TEST_DATABASE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childDatabase); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver creates jobs and submits places, and prints what was acknowledged, until it is killed.
func writeForEver(path string) error {
	s, err := sqlite.Open(context.Background(), path, sqlite.Config{})
	if err != nil {
		return err
	}
	w, err := s.JoinStanding(context.Background(), "child", 1)
	if err != nil {
		return err
	}
	for {
		j, _, err := s.CreateJob(context.Background(), store.NewJob{Tasks: make([]job.Task, 5)})
		if err != nil {
			return err
		}
		fmt.Println("job", j.ID)
		l, err := s.Grant(context.Background(), w.ID, 5, time.Hour)
		if err != nil {
			return err
		}
		for i, task := range l.Tasks {
			b := job.Batch{Tasks: []job.TaskStep{{TaskID: task.ID, Done: true}}, Places: []job.Found{{TaskID: task.ID, Place: gmaps.Place{DataID: fmt.Sprintf("0x1:0x%x", i+1)}}}}
			if _, err := s.Submit(context.Background(), l.Fence, b); err != nil {
				return err
			}
			fmt.Println("place", l.JobID) // which may be of a job that the one before this process was killed over
		}
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	acknowledged := make(map[job.ID]int) // places by job
	for kill := range 5 {
		for _, line := range runUntilKilled(t, path, 40+30*kill) {
			what, id, _ := strings.Cut(line, " ")
			if what == "job" {
				acknowledged[job.ID(id)] += 0
			} else {
				acknowledged[job.ID(id)]++
			}
		}
		s, err := sqlite.Open(t.Context(), path, sqlite.Config{})
		if err != nil {
			t.Fatalf("open after kill -9: %v", err)
		}
		for id, places := range acknowledged {
			j, err := s.JobHead(t.Context(), id)
			if err != nil {
				t.Fatalf("acknowledged job: %v", err)
			}
			c := j.Counts
			if c.Places < places || c.Places != c.Done || c.Tasks != 5 || j.State.Terminal() != (c.Done == 5) {
				t.Errorf("job %s is %s with %+v, want at least %d places, one for each task done", id, j.State, c, places)
			}
			results, err := s.Results(t.Context(), id, store.ResultFilter{})
			if err != nil || len(results) != c.Places {
				t.Errorf("job %s has %d results (%v) and counts %d", id, len(results), err, c.Places)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runUntilKilled runs a child on the database, kills it when it has said enough, and returns all that it said.
func runUntilKilled(t *testing.T, path string, enough int) []string {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDatabase+"="+path)
	var complaint strings.Builder
	child.Stderr = &complaint
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said = append(said, lines.Text())
		if len(said) == enough {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); len(said) < enough {
		t.Fatalf("child ended by itself: %v\n%s", err, &complaint)
	}
	return said
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	first, err := sqlite.Open(t.Context(), path, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path, sqlite.Config{}); !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("second Open: got %v, want ErrInUse that names the file", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, sqlite.Config{})
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	open(t, path, sqlite.Config{})
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDatabase+"="+path)
	if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), sqlite.ErrInUse.Error()) {
		t.Errorf("second process: %v\n%s", err, out)
	}
}

func TestReopenedStoreHasEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := s.CreateJob(t.Context(), store.NewJob{Spec: job.Spec{Name: "kept"}, Tasks: make([]job.Task, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path, sqlite.Config{}).Job(t.Context(), made.ID)
	if err != nil || got.Spec.Name != "kept" || got.Counts.Open != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUnusablePathsAreNamed(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "no", "such", "folder", "gmaps.db")
	if _, err := sqlite.Open(t.Context(), missing, sqlite.Config{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing folder: %v", err)
	}
	folder := t.TempDir()
	if _, err := sqlite.Open(t.Context(), folder, sqlite.Config{}); err == nil {
		t.Error("a folder was opened as a database")
	}
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), text, sqlite.Config{}); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("no database: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "what? 100% #1 &mode=memory.db")
	open(t, odd, sqlite.Config{})
	if _, err := os.Stat(odd); err != nil {
		t.Errorf("a name with signs of URLs: %v", err)
	}
}

func TestDeletedJobOfManyRowsIsPurgedByAndBy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	s := open(t, path, sqlite.Config{})
	const tasks = 12_000
	j, _, err := s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, tasks)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteJob(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := func(table string) (n int) {
		t.Helper()
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	left := rows("tasks")
	if left == 0 || left == tasks {
		t.Errorf("%d tasks left after DeleteJob, want some of %d", left, tasks)
	}
	for range 5 {
		if _, err := s.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"jobs", "job_inputs", "tasks", "events", "results", "leases"} {
		if n := rows(table); n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

func TestFullDiskIsUnavailableAndLeavesNoHalfState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gmaps.db")
	s := open(t, path, sqlite.Config{})
	kept, _, err := s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 1)})
	if err != nil {
		t.Fatal(err)
	}
	free := s.LimitPages(t, 60)
	_, _, err = s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 50_000)})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("on a full disk: got %v, want ErrUnavailable", err)
	}
	free()
	jobs, err := s.Jobs(t.Context(), store.JobFilter{})
	if err != nil || len(jobs) != 1 || jobs[0].ID != kept.ID {
		t.Errorf("jobs afterwards: %v, %v", jobs, err)
	}
	if _, _, err := s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 50_000)}); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // as a folder that somebody named with -data-dir
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "gmaps.db"), sqlite.Config{})
	if _, err := s.Setting(t.Context(), "secret", "of the instance"); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v: want the database, its log and its lock", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); runtime.GOOS != "windows" && got&0o077 != 0 {
			t.Errorf("%s has mode %o: others may read the secret that tokens and cookies are signed with", f.Name(), got)
		}
	}
}
