package spawnertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gmaps-scraper/spawner"
)

// EnvDo tells Main what to do: "exit N", "wait" (for SIGTERM, then exit 0), "stubborn" (ignore SIGTERM), "flood" (write 6 MiB),
// "env" (print arguments, environment and secrets), "litter" (start another process, print its pid and exit 0 before it),
// "eat" (take memory until killed), "confines" (print what the process is allowed), "get URL" (print what it answers) or
// "manager NETWORK PORT" (print the route to this container as Docker finds it, then answer on PORT until SIGTERM).
const EnvDo = "GMAPS_SPAWNERTEST_DO"

// ManagerOnly is a variable that the tests of a backend set for themselves before Run; no worker may see it.
const ManagerOnly = "GMAPS_SPAWNERTEST_MANAGER_ONLY"

const (
	saysStarted = "worker started"
	// lifetime bounds a worker that a failed test forgot.
	lifetime = 2 * time.Minute
)

// Main is the worker of the suite. Called first in TestMain, or by a program in an image, it does what EnvDo says and
// exits; without EnvDo it returns.
func Main() {
	do, ok := os.LookupEnv(EnvDo)
	if !ok {
		return
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Println(saysStarted)
	switch verb, arg, _ := strings.Cut(do, " "); verb {
	case "exit":
		code, err := strconv.Atoi(arg)
		if err != nil {
			code = 125
		}
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		os.Exit(code)
	case "wait":
		select {
		case <-term:
			fmt.Println("asked to stop")
			os.Exit(0)
		case <-time.After(lifetime):
		}
	case "stubborn":
		<-time.After(lifetime)
	case "flood":
		line := strings.Repeat("flood ", 170) + "\n"
		for range 6 << 20 / len(line) {
			fmt.Print(line)
		}
		fmt.Println("flood is over")
		os.Exit(0)
	case "litter":
		other, err := os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
			Env: []string{EnvDo + "=stubborn"}, Files: []*os.File{nil, os.Stdout, os.Stderr, os.NewFile(3, "inherited")},
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(125)
		}
		fmt.Println("left", other.Pid)
		os.Exit(0)
	case "env":
		env := os.Environ()
		if path := os.Getenv(spawner.SecretsFile); path != "" {
			secrets, err := spawner.ReadSecrets(path)
			if err != nil {
				fmt.Println(err)
				os.Exit(125)
			}
			for name, value := range secrets {
				env = append(env, name+"="+value)
			}
		}
		slices.Sort(env)
		fmt.Printf("args %q\n%s\n", os.Args[1:], strings.Join(env, "\n"))
		os.Exit(0)
	case "eat":
		type morsel struct {
			bytes  [1 << 20]byte
			before *morsel // held, so that it is not collected
		}
		for eaten := (*morsel)(nil); ; {
			eaten = &morsel{before: eaten}
			for i := 0; i < len(eaten.bytes); i += 1 << 10 {
				eaten.bytes[i] = 1
			}
		}
	case "confines":
		fmt.Println("uid", os.Getuid(), "pid", os.Getpid())
		for _, dir := range []string{"/", "/tmp", "/data"} {
			err := os.WriteFile(filepath.Join(dir, "probe"), []byte("x"), 0o600)
			fmt.Printf("write %s: %v\n", dir, err)
		}
		status, err := os.ReadFile("/proc/self/status")
		fmt.Printf("%s%v\n", status, err)
		os.Exit(0)
	case "get":
		answer, err := get(arg)
		fmt.Println("answer:", answer, err)
		os.Exit(0)
	case "manager":
		network, port, _ := strings.Cut(arg, " ")
		fmt.Println("manager ended:", manager(network, port, term))
		os.Exit(0)
	}
	os.Exit(125)
}

func get(url string) (string, error) {
	res, err := (&http.Client{Timeout: 30 * time.Second}).Get(url) //nolint:noctx // its timeout bounds it
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	return string(b), err
}

func manager(network, port string, term <-chan os.Signal) error {
	d, err := spawner.NewDocker(spawner.DockerConfig{Network: network})
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	r, err := d.Route(context.Background(), number)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+port) //nolint:noctx // listens at once or not at all
	if err != nil {
		return err
	}
	fmt.Printf("route %s listen %q\n", r.URL, r.Listen)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "manager here") })}
	time.AfterFunc(lifetime, func() { s.Close() })
	go func() {
		<-term
		s.Close()
	}()
	return s.Serve(l)
}
