package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestWrongFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-addr nowhere":     "-addr",
		"-sandbox vm":       "-sandbox",
		"-retry-scale 0":    "-retry-scale",
		"-retry-scale 1.5":  "-retry-scale",
		"-account 12":       "-account",
		"-concurrency 0":    "-concurrency",
		"-event-bytes -1":   "-event-bytes",
		"-secret token":     "-secret",
		"-secret a=NOT_SET": "NOT_SET",
		"-unknown":          "-unknown",
		"serve":             `"serve"`,
	} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d, %q, want %d and %s", args, code, stderr.String(), exitUsage, want)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	t.Parallel()
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"-help"}, &stdout, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("exit %d, stderr %q", code, stderr.String())
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "-addr", "-sandbox", "-retry-scale", "-state", "-deny", "-secret"} {
		if !strings.Contains(stdout.String(), name) {
			t.Errorf("help lacks %s:\n%s", name, stdout.String())
		}
	}
}

func TestServesUntilItIsTold(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-addr", "127.0.0.1:0", "-sandbox", "process", "-logs=false"}, w, os.Stderr)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(line, "AWS_ENDPOINT_URL=")
	url, _, _ := strings.Cut(after, ",")
	if !ok || !strings.Contains(line, "functions run as process") {
		t.Fatalf("ready line: %q", line)
	}
	resp, err := http.Get(url + "/_emulator/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("health: %d", resp.StatusCode)
	}
	stop()
	if got := <-code; got != exitOK {
		t.Errorf("exit %d, want %d", got, exitOK)
	}
}
