package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// logTail is how much of a child's log an error shows, in bytes.
const logTail = 3000

// child is a running gmaps-scraper whose output goes to a file.
type child struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs bin in a process group of its own: Ctrl-C is for this process, which knows the order in which to end.
func start(bin string, args, env []string, log string) (*child, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(bin, args...) //nolint:noctx // ended by stop
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(clean(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its ProcessState
		close(c.done)
	}()
	return c, nil
}

func (c *child) name() string { return strings.TrimSuffix(filepath.Base(c.log), ".log") }

// answers waits until url does.
func (c *child) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.done:
			return c.ended()
		case <-ctx.Done():
			return fmt.Errorf("the %s did not answer at %s within %s; its log ends:\n%s", c.name(), url, startWithin, c.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ended is the error of a child that has ended by itself.
func (c *child) ended() error {
	return fmt.Errorf("the %s has ended: %v; its log ends:\n%s", c.name(), c.cmd.ProcessState, c.tail())
}

// stop asks the child to end, and sees to it that it does. One that has ended is left alone.
func (c *child) stop(within time.Duration) error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-time.After(within):
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("the %s did not end within %s of SIGTERM, and was killed; its log ends:\n%s", c.name(), within, c.tail())
}

func (c *child) tail() string {
	b, _ := os.ReadFile(c.log)
	return string(b[max(0, len(b)-logTail):])
}
