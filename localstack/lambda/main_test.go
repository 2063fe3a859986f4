package lambda_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"strconv"
	"syscall"
	"testing"

	"gmaps-scraper/localstack/lambda"
)

func TestMain(m *testing.M) {
	if os.Getenv(serveInstead) == "" {
		os.Exit(m.Run())
	}
	e, err := lambda.New(lambda.Config{Activation: 1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(httptest.NewServer(e).URL)
	select {} // until it is killed
}

// alive says that a process runs: an orphan that nobody has reaped yet does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !os.IsNotExist(err) || !isLinux
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return len(after) < 2 || after[1] != 'Z' && after[1] != 'X'
}

var isLinux = func() bool { _, err := os.Stat("/proc/self/stat"); return err == nil }()
