package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestWrongFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-port 0":               "-port",
		"-simulator-port 65536": "-simulator-port",
		"-lambda-port -1":       "-lambda-port",
		"-unknown":              "-unknown",
		"start":                 `"start"`,
	} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d, %q, want %d and %s", args, code, stderr.String(), exitUsage, want)
		}
	}
}

func TestCheckNamesTakenPortsAndWhatIsNotBuilt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	built := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(built, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"taken":     {[]string{"-bin", built, "-function", built, "-simulator-port", strconv.Itoa(taken)}, []string{"127.0.0.1:" + strconv.Itoa(taken) + " for the simulator", "SIMULATOR_PORT="}},
		"not built": {[]string{"-bin", built, "-function", built + ".zip"}, []string{"built.zip", "make local-stack"}},
	} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), append(c.args, "-check"), &stdout, &stderr); code != exitFailed {
			t.Errorf("%s: exit %d, want %d", name, code, exitFailed)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: %q lacks %q", name, stderr.String(), want)
			}
		}
	}
}

func TestWhatLacksForTheOfflineFormIsNamed(t *testing.T) {
	t.Parallel()
	o := options{key: "k", postgres: "p", rabbitmq: "r"}
	if err := o.stack(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "OFFLINE") {
		t.Errorf("without Redis: %v, want the mend", err)
	}
}
