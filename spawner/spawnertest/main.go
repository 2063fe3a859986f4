package spawnertest

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// EnvDo tells Main what to do: "exit N", "wait" (for SIGTERM, then exit 0), "stubborn" (ignore SIGTERM), "flood" (write 6 MiB),
// "env" (print arguments and environment) or "litter" (start another process, print its pid and exit 0 before it).
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
		slices.Sort(env)
		fmt.Printf("args %q\n%s\n", os.Args[1:], strings.Join(env, "\n"))
		os.Exit(0)
	}
	os.Exit(125)
}
