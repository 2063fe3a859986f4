// Command demo shows the whole system on one machine and without Google: simulator, Manager, spawned workers, rows.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

const (
	synthetic   = 600 // made-up places
	shards      = 6   // queries that cover them
	tableRows   = 15
	startWithin = 15 * time.Second
	stopWithin  = 20 * time.Second
)

func main() {
	bin := flag.String("bin", "bin/gmaps-scraper", "the program")
	captures := flag.String("captures", "", "folder of captured payloads; left out if it is not there")
	out := flag.String("out", "out", "folder for places.csv")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	err := run(ctx, *bin, *captures, *out)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, captures, out string) (err error) {
	dir, err := os.MkdirTemp("", "gmaps-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	simulatorAddr, managerAddr := freeAddr(), freeAddr()

	args := []string{"-simulator", "-addr", simulatorAddr, "-synthetic", fmt.Sprint(synthetic), "-latency", "40ms"}
	lines := []string{}
	if _, err := os.Stat(captures); captures != "" && err == nil {
		args = append(args, "-captures", captures)
		lines = append(lines, "coffee #!#captured")
		fmt.Println("captured payloads: ", captures)
	} else {
		fmt.Println("captured payloads:  none here, made-up places only")
	}
	for i := range shards {
		lines = append(lines, fmt.Sprintf("synthetic %d/%d #!#made-up-%d", i+1, shards, i+1))
	}
	fmt.Println("simulator:         ", "http://"+simulatorAddr, "plays Google Maps with", synthetic, "made-up places")
	sim, err := start(bin, args, filepath.Join(dir, "simulator.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.stop()) }()

	key := rand.Text()
	fmt.Println("manager:           ", "http://"+managerAddr, "spawns worker processes")
	mgr, err := start(bin, []string{
		"-manager", "-addr", managerAddr, "-data-dir", filepath.Join(dir, "data"), "-spawner", "process", "-maps-url", "http://" + simulatorAddr,
	}, filepath.Join(dir, "manager.log"), "GMAPS_API_KEY="+key)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, mgr.stop())
		if left := workers(managerAddr); len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("workers are left: %v", left))
		} else if err == nil {
			fmt.Println("no process is left")
		}
	}()
	for _, url := range []string{"http://" + simulatorAddr + "/healthz", "http://" + managerAddr + "/readyz"} {
		if err := waitOK(ctx, url); err != nil {
			return fmt.Errorf("%w\n%s%s", err, sim.tail(), mgr.tail())
		}
	}

	client, err := api.NewClient("http://"+managerAddr, api.Secret(key), nil)
	if err != nil {
		return err
	}
	started := time.Now()
	j, err := client.Create(ctx, api.NewJob{Name: "demo", Lines: strings.Join(lines, "\n"), MaxWorkers: 2, Priority: 5}, "demo")
	if err != nil {
		return err
	}
	fmt.Printf("job:                %s, %d searches\n\n", j.ID, j.Counts.Tasks)
	for p, err := range client.Stream(ctx, j.ID) {
		if err != nil {
			return err
		}
		fmt.Printf("  %5.1fs  %-9s %2d of %2d searches %5d places  %s\n", time.Since(started).Seconds(), p.State, p.Counts.Done, p.Counts.Tasks, p.Counts.Places, p.Waiting)
	}
	if j, err = client.Job(ctx, j.ID); err != nil {
		return err
	}
	if j.State != job.Succeeded {
		return fmt.Errorf("job %s: %s\n%s", j.State, j.Reason, mgr.tail())
	}
	if err := table(ctx, client, j.ID); err != nil {
		return err
	}
	if err := workersGone(ctx, client, j.ID); err != nil {
		return err
	}
	name := filepath.Join(out, "places.csv")
	if err := save(ctx, client, j.ID, name); err != nil {
		return err
	}
	fmt.Printf("\n%d places in %s (%s)\n", j.Counts.Places, name, time.Since(started).Round(100*time.Millisecond))
	return nil
}

// table prints the first rows.
func table(ctx context.Context, client *api.Client, id job.ID) error {
	page, err := client.Results(ctx, id, api.ResultQuery{Limit: 200})
	if err != nil {
		return err
	}
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "INPUT\tTITLE\tCATEGORY\tRATING\tREVIEWS\tPHONE\tADDRESS")
	for i := range min(tableRows, len(page.Results)) {
		r := page.Results[i*len(page.Results)/min(tableRows, len(page.Results))]
		category := ""
		if len(r.Place.Categories) > 0 {
			category = r.Place.Categories[0]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%d\t%s\t%s\n", r.InputID, cut(r.Place.Title), cut(category), r.Place.Rating, r.Place.ReviewCount, r.Place.Phone, cut(r.Place.Address))
	}
	return w.Flush()
}

func cut(s string) string {
	if r := []rune(s); len(r) > 32 {
		return string(r[:31]) + "…"
	}
	return s
}

// workersGone waits until every worker of the job has ended, and prints them.
func workersGone(ctx context.Context, client *api.Client, id job.ID) error {
	for {
		page, err := client.Spawns(ctx, api.SpawnQuery{JobID: id})
		if err != nil {
			return err
		}
		live := 0
		for _, s := range page.Spawns {
			if s.Live() {
				live++
			}
		}
		if live == 0 && len(page.Spawns) > 0 {
			fmt.Println()
			for _, s := range page.Spawns {
				code := "unknown"
				if s.ExitCode != nil {
					code = fmt.Sprint(*s.ExitCode)
				}
				fmt.Printf("worker %s lived %.1fs and %s with code %s\n", s.Name(), s.EndedAt.Sub(s.CreatedAt).Seconds(), s.Outcome, code)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d workers did not end: %w", live, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func save(ctx context.Context, client *api.Client, id job.ID, name string) error {
	rows, err := client.Export(ctx, id, "csv", nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, rows)
	return errors.Join(err, f.Close())
}

// process is a running gmaps-scraper whose output goes to a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
}

func start(bin string, args []string, log string, env ...string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; build it: make build", err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p, nil
}

// stop asks the process to drain and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s did not stop within %s\n%s", p.cmd.Args[1], stopWithin, p.tail())
	}
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-4096):])
}

// workers lists the process ids of workers that the Manager at addr started, where the system tells.
func workers(addr string) []string {
	var left []string
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		env, _ := os.ReadFile(name)
		if strings.Contains(string(env), "GMAPS_MANAGER_URL=http://"+addr) {
			left = append(left, filepath.Base(filepath.Dir(name)))
		}
	}
	return left
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

func waitOK(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer within %s", url, startWithin)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
