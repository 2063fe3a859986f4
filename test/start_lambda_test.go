package test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"gmaps-scraper/job"
)

// TestFunctionsThatCannotBeInvoked: what AWS refuses, the job that waits for it says, with the mend, and so does the doctor.
func TestFunctionsThatCannotBeInvoked(t *testing.T) {
	t.Parallel()
	other := types.ArchitectureArm64
	if runtime.GOARCH == "arm64" {
		other = types.ArchitectureX8664
	}
	for _, c := range []struct {
		name     string
		flags    []string
		env      []string
		function function
		says     []string
		runs     bool // Lambda runs it before it knows: nothing for the doctor
	}{
		{name: "wrong name", flags: []string{"-spawner-lambda-function", "nobody"}, says: []string{"nobody", "not found", "us-east-1", "-spawner-lambda-function"}},
		{name: "wrong region", flags: []string{"-spawner-lambda-region", "eu-west-1"}, says: []string{functionName, "not found", "eu-west-1", "-spawner-lambda-region"}},
		{name: "no credentials", env: []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"}, says: []string{"credentials", "AWS_ACCESS_KEY_ID"}},
		{name: "no permission", function: function{denied: []string{"lambda:InvokeFunction"}}, says: []string{"lambda:InvokeFunction", "allow"}},
		{name: "pending", function: function{pending: 10 * time.Minute}, says: []string{"Pending"}},
		{name: "wrong architecture", flags: []string{"-spawner-lambda-invocation", "RequestResponse"}, function: function{architecture: other}, says: []string{"make lambda ARCH="}, runs: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{ground: onLambda, size: 20, flags: c.flags, env: c.env, function: c.function})
			l := newLedger(w)
			id := l.mustSubmit("start", 1, nil)
			j := w.waitJob(id, "said why it waits: "+strings.Join(c.says, ", "), func(j job.Job) bool { return saysAll(j.Waiting, c.says) })
			t.Log(j.Waiting)
			w.wantAttempts(t, id, 0, "a worker that never began was charged")
			if c.runs {
				return
			}
			cmd := exec.Command(w.bin, append([]string{"doctor"}, w.managerFlags("-addr", freeAddr(t), "-data-dir", t.TempDir())[1:]...)...)
			cmd.Env = append(os.Environ(), w.managerEnv()...)
			if out, err := cmd.CombinedOutput(); err == nil || !saysAll(string(out), c.says) {
				t.Errorf("the doctor ended with %v and said:\n%s\nwant exit code 1 and %q", err, out, c.says)
			}
		})
	}
}

func saysAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}
