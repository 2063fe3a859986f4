// Command bootstrap is a function that does what its event says, to find out how a Lambda behaves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type order struct {
	Do     string `json:"do"` // "" echoes
	Value  any    `json:"value,omitempty"`
	Millis int    `json:"millis,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	Code   int    `json:"code,omitempty"`
}

// facts is the answer to every order that can be answered.
type facts struct {
	Value       any               `json:"value"`
	PID         int               `json:"pid"`
	UID         int               `json:"uid"`
	Child       int               `json:"child"` // a process that this one has started
	Count       int               `json:"count"` // invocations of this environment
	Marks       int               `json:"marks"` // of them with the order mark
	RequestID   string            `json:"requestId"`
	InvokedARN  string            `json:"invokedArn"`
	LeftMillis  int64             `json:"leftMillis"`
	Environment map[string]string `json:"environment"`
	Written     string            `json:"written"` // whether a file could be written to the folder for temporary files
	Text        string            `json:"text,omitempty"`
}

var count, marks, child int

func handle(ctx context.Context, o order) (facts, error) {
	count++
	f := facts{Value: o.Value, PID: os.Getpid(), UID: os.Getuid(), Count: count, Environment: map[string]string{}}
	switch o.Do {
	case "mark":
		marks++
	case "sleep":
		time.Sleep(time.Duration(o.Millis) * time.Millisecond)
	case "error":
		return f, errors.New("as ordered")
	case "panic":
		panic("as ordered")
	case "exit":
		os.Exit(o.Code)
	case "log":
		fmt.Println("to stdout:", o.Value)
		fmt.Fprintln(os.Stderr, "to stderr:", o.Value)
	case "long log":
		for range 200 {
			fmt.Println(strings.Repeat("x", 99))
		}
	case "fork":
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			return f, err
		}
		child = c.Process.Pid
		time.Sleep(time.Duration(o.Millis) * time.Millisecond)
	case "allocate":
		b := make([]byte, o.Bytes)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		time.Sleep(time.Duration(o.Millis) * time.Millisecond)
		f.Text = fmt.Sprint(len(b))
	case "answer":
		f.Text = strings.Repeat("x", o.Bytes)
	}
	f.Marks, f.Child = marks, child
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		f.Environment[k] = v
	}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		f.RequestID, f.InvokedARN = lc.AwsRequestID, lc.InvokedFunctionArn
	}
	if d, ok := ctx.Deadline(); ok {
		f.LeftMillis = time.Until(d).Milliseconds()
	}
	f.Written = "yes"
	if file, err := os.CreateTemp("", "probe"); err != nil {
		f.Written = err.Error()
	} else {
		file.Close()
	}
	return f, nil
}

func main() {
	switch os.Getenv("INIT") {
	case "exit":
		fmt.Println("exits before its first invocation")
		os.Exit(3)
	}
	lambda.Start(handle)
}
