package test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	emulator "gmaps-scraper/localstack/lambda"
)

// TestLocalStackOfflineAsANewUserTriesIt is make local-stack OFFLINE=1 after its builds: what it prints is run as it is printed, and Ctrl-C
// leaves nothing. Of the servers only Redis is its own: the others, which take longer to start, are those that make test-e2e has started.
func TestLocalStackOfflineAsANewUserTriesIt(t *testing.T) {
	t.Parallel()
	s := startLocalStack(t)
	rows := s.try()

	client, err := api.NewClient("http://127.0.0.1:"+s.ports[0], api.Secret(s.printed(`key (\S+)`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := client.Jobs(t.Context(), api.JobQuery{})
	if err != nil || len(jobs.Jobs) != 1 {
		t.Fatalf("jobs: %d, %v, want the one of the printed command", len(jobs.Jobs), err)
	}
	j := jobs.Jobs[0]
	if j.State != job.Succeeded || len(rows) == 0 || len(rows) != j.Counts.Places {
		t.Errorf("the command printed %d rows, and the job %s with %d places: want as many, and succeeded", len(rows), j.State, j.Counts.Places)
	}
	spawns, err := client.Spawns(t.Context(), api.SpawnQuery{JobID: j.ID})
	if err != nil || len(spawns.Spawns) == 0 {
		t.Fatalf("spawns: %v, %v, want some", spawns.Spawns, err)
	}
	for _, x := range spawns.Spawns {
		if x.Backend != onLambda {
			t.Errorf("spawn %s is of backend %q, want %s", x.ID, x.Backend, onLambda)
		}
	}
	waitFor(t, "the function's invocation to have ended", func() bool { return s.invocations() > 0 })

	if left := s.left(); len(left) < 7 { // services, stack, Manager, simulator, the function's environment, a container, a folder
		t.Fatalf("while it runs there is only %v: the test could not see what is left", left)
	}
	s.interrupt()
	if left := s.left(); len(left) > 0 {
		t.Errorf("left after Ctrl-C: %s", strings.Join(left, ", "))
	}
}

// localStack is a running localstack/up.sh.
type localStack struct {
	t        *testing.T
	cmd      *exec.Cmd
	done     chan struct{}
	output   string   // file
	mark     string   // in the environment of all that it starts, but for functions
	ports    []string // of Manager, simulator and AWS endpoint
	services string   // process id of what starts servers, as it is on their containers
}

func startLocalStack(t *testing.T) *localStack {
	t.Helper()
	engineAPI(t) // or skip
	folder := t.TempDir()
	for name, target := range map[string]string{"gmaps-scraper": binary(t), "lambda/function.zip": fromEnv(t, "GMAPS_TEST_FUNCTION")} {
		link := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "go", "build", "-o", folder+"/", "../localstack/stack")
	command(t, "go", "build", "-o", folder+"/test/", "./services")
	some := fmt.Sprintf("#!/bin/sh\nexec '%s/test/services' -with redis \"$@\"\n", folder)
	if err := os.WriteFile(filepath.Join(folder, "services"), []byte(some), 0o700); err != nil {
		t.Fatal(err)
	}
	servers := realServers(t)

	s := &localStack{t: t, done: make(chan struct{}), output: filepath.Join(folder, "output"), mark: "LOCAL_STACK_TEST=" + randomName()}
	for range 3 {
		s.ports = append(s.ports, portOf(freeAddr(t)))
	}
	out, err := os.Create(s.output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command("../localstack/up.sh", folder)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.Env = append(os.Environ(), s.mark, "OFFLINE=1", "GMAPS_PORT="+s.ports[0], "SIMULATOR_PORT="+s.ports[1], "LAMBDA_PORT="+s.ports[2],
		"GMAPS_TEST_POSTGRES="+servers.postgres, "GMAPS_TEST_RABBITMQ="+servers.rabbitmq)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell starts what Ctrl-C is for
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.interrupt()
		if t.Failed() {
			t.Logf("it said:\n%s", s.text())
		}
	})
	waitFor(t, "the stack to say what to try, or to end", func() bool {
		select {
		case <-s.done:
			t.Fatal("it ended before it had started")
		default:
		}
		return strings.Contains(s.text(), "\nLogs, until then: ")
	})
	for _, pid := range marked(s.mark) {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(exe) == "services" {
			s.services = strconv.Itoa(pid)
		}
	}
	return s
}

func (s *localStack) text() string {
	b, _ := os.ReadFile(s.output)
	return string(b)
}

// printed is what the first group of a pattern matched in the output.
func (s *localStack) printed(pattern string) string {
	s.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(s.text())
	if found == nil {
		s.t.Fatalf("it did not print %s", pattern)
	}
	return found[1]
}

// try runs the printed command as it stands, in a shell, and returns the rows that it shows after their heading.
func (s *localStack) try() [][]string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", "-c", s.printed(`(?s)\nTry it: [^\n]*\n(.*?)\n\n`)).CombinedOutput()
	_, table, found := strings.Cut(string(out), "title,category,rating,address")
	if err != nil || !found {
		s.t.Fatalf("the printed command: %v, want rows:\n%s", err, out)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimSpace(table))).ReadAll()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range rows {
		if len(row) != 4 || row[0] == "" || row[1] != "Cafe" {
			s.t.Fatalf("row %q: want title, category, rating, address of a Cafe", row)
		}
	}
	return rows
}

// invocations are the endpoint's own count of the function's.
func (s *localStack) invocations() int {
	s.t.Helper()
	res, err := http.Get("http://127.0.0.1:" + s.ports[2] + "/_emulator/functions/" + functionName)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var stats emulator.Stats
	if err := json.NewDecoder(res.Body).Decode(&stats); err != nil {
		s.t.Fatal(err)
	}
	return stats.Invocations
}

// interrupt is Ctrl-C at a terminal, which signals the whole group in the foreground, and waits until all has ended.
func (s *localStack) interrupt() {
	s.t.Helper()
	select {
	case <-s.done:
		return
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("it did not end within %s of Ctrl-C", patience)
		for _, pid := range append(marked(s.mark), marked("AWS_ENDPOINT_URL=http://127.0.0.1:"+s.ports[2])...) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-s.done
	}
}

// left are the processes, functions, containers and files of it.
func (s *localStack) left() []string {
	s.t.Helper()
	var left []string
	for _, pid := range slices.Concat(marked(s.mark), marked("AWS_ENDPOINT_URL=http://127.0.0.1:"+s.ports[2])) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %.60q", pid, line))
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	list, err := engineAPI(s.t).ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", mark+"=services"), filters.Arg("label", mark+".pid="+s.services))})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range list {
		left = append(left, "container of "+c.Image)
	}
	if folder := s.printed(`Logs, until then: (\S+)/\{`); exists(folder) {
		left = append(left, folder)
	}
	return left
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// marked are the processes that were started with a pair in their environment.
func marked(pair string) []int {
	name, value, _ := strings.Cut(pair, "=")
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && environ(pid)[name] == value && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
