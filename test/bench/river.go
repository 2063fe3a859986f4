package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// riverSource is the module of the baseline, seen from the root of the tree.
const riverSource = "test/bench/river"

// riverProgram is a running baseline, see its own description.
type riverProgram struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
	dir     string
}

// startRiver builds River's side and starts it on a database.
func startRiver(ctx context.Context, dsn string) (_ *riverProgram, err error) {
	dir, err := os.MkdirTemp("", "bench-river-")
	if err != nil {
		return nil, err
	}
	r := &riverProgram{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	binary := filepath.Join(dir, "river")
	if out, err := exec.CommandContext(ctx, "go", "build", "-C", riverSource, "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the baseline %s (from the root of the tree): %w\n%s", riverSource, err, out)
	}
	r.cmd = exec.CommandContext(ctx, binary, "-dsn", dsn)
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.answers = bufio.NewReader(out)
	return r, r.cmd.Start()
}

// ask sends a command and returns what it took.
func (r *riverProgram) ask(format string, args ...any) (took []time.Duration, err error) {
	if _, err := fmt.Fprintf(r.in, format+"\n", args...); err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	line, err := r.answers.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	if err := json.Unmarshal(line, &took); err != nil {
		return nil, fmt.Errorf("river: %s", line)
	}
	return took, nil
}

// stop ends the program and waits for it.
func (r *riverProgram) stop() error {
	return errors.Join(r.in.Close(), r.cmd.Wait(), os.RemoveAll(r.dir))
}
