package test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/job"
	emulator "gmaps-scraper/localstack/lambda"
)

// What Lambda does to invocations, and what becomes of jobs.

// TestFaultLambda does to invocations what Lambda is known to do. maxConc holds by the Manager's record, and by the emulator's own count where
// that can be: of an event's end nothing tells but its worker's goodbye, a moment before it, in which the next may begin. The function's
// reserved concurrency holds it even then, and where an event runs more than once at a time, as docs/lambda.md sets it up.
func TestFaultLambda(t *testing.T) {
	t.Parallel()
	const maxConc = 3
	event, either := emulator.Event, emulator.InvocationType("")
	for _, c := range []struct {
		name       string
		invocation string
		reserved   int
		timeout    time.Duration
		rules      []emulator.Rule
	}{
		{name: "throttled", rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultThrottle}}}},
		{name: "throttled", invocation: "RequestResponse", rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultThrottle}}}},
		{name: "5xx", rules: []emulator.Rule{
			{Type: either, Count: 1, Fault: emulator.Fault{Kind: emulator.FaultError}},
			{Type: either, Count: 1, Fault: emulator.Fault{Kind: emulator.FaultError, Status: 502, Code: "EC2ThrottledException"}},
		}},
		{name: "accepted but never run", rules: []emulator.Rule{{Type: event, Count: 2, Fault: emulator.Fault{Kind: emulator.FaultDrop}}}},
		{name: "run twice", reserved: maxConc, rules: []emulator.Rule{{Type: event, Fault: emulator.Fault{Kind: emulator.FaultDuplicate, Times: 2}}}},
		{name: "run three times", reserved: maxConc, rules: []emulator.Rule{{Type: event, Fault: emulator.Fault{Kind: emulator.FaultDuplicate, Times: 3}}}},
		{name: "killed in the middle", timeout: 20 * time.Second, rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultKill, Fraction: 0.05}}}},
		{name: "killed in the middle", invocation: "RequestResponse", timeout: 20 * time.Second,
			rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultKill, Fraction: 0.05}}}},
		{name: "accepted slowly", rules: []emulator.Rule{{Type: either, Fault: emulator.Fault{Kind: emulator.FaultDelay, Delay: emulator.Duration(2 * time.Second)}}}},
		{name: "accepted, and the answer lost", rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultCut}}}},
		{name: "accepted, and the answer lost", invocation: "RequestResponse", rules: []emulator.Rule{{Type: either, Count: 3, Fault: emulator.Fault{Kind: emulator.FaultCut}}}},
	} {
		if c.invocation == "" {
			c.invocation = "Event"
		}
		t.Run(c.name+" "+c.invocation, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{
				ground: onLambda, servers: realServers(t), size: 120, latency: 50 * time.Millisecond, function: function{timeout: c.timeout, reserved: c.reserved, faults: c.rules},
				flags: []string{"-spawner-lambda-invocation", c.invocation, "-spawner-lambda-max-conc", strconv.Itoa(maxConc)},
			})
			l := newLedger(w)
			jobs := runs(6)
			for i := range jobs {
				l.mustSubmit(fmt.Sprintf("lambda%d", i%3), 3, nil)
			}
			l.balance("Lambda: "+c.name, jobs)
			if rules := w.ground.(*functions).emulator.Faults(); slices.ContainsFunc(rules, func(r emulator.Rule) bool { return r.Count > 0 }) {
				t.Errorf("not all faults were done, left are %+v: the test shows nothing", rules)
			}
			most := maxConc
			if c.invocation == "Event" && c.reserved == 0 {
				most = 2 * maxConc // each with another's successor
			}
			if s := w.ground.(*functions).stats(); s.MaxRunning > most || s.MaxRunning == 0 {
				t.Errorf("%d invocations ran at once, want 1 to %d", s.MaxRunning, most)
			}
			if n := mostAtOnce(w.spawns("")); n > maxConc || n == 0 {
				t.Errorf("%d invocations were counted at once, want 1 to %d", n, maxConc)
			}
		})
	}
}

// mostAtOnce is how many spawns the Manager had under way at once, by its own record.
func mostAtOnce(spawns []job.Spawn) (most int) {
	for _, a := range spawns {
		n := 0
		for _, b := range spawns {
			if !b.CreatedAt.After(a.CreatedAt) && (b.Live() || b.EndedAt.After(a.CreatedAt)) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// TestFaultLambdaIsSlowerThanItsTimeout has a job that takes several times as long as an invocation may: each hands back what it has not
// done, and the next goes on there. It runs beside no other test: half a second is all that an invocation of five has to hand back in.
func TestFaultLambdaIsSlowerThanItsTimeout(t *testing.T) {
	for _, invocation := range []string{"Event", "RequestResponse"} {
		t.Run(invocation, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{
				ground: onLambda, servers: realServers(t), size: 500, latency: 600 * time.Millisecond, function: function{timeout: 5 * time.Second},
				flags: []string{"-spawner-lambda-invocation", invocation},
			})
			l := newLedger(w)
			id := l.mustSubmit("long", 1, nil)
			l.balance("Lambda: job longer than an invocation", 1)
			w.wantAttempts(t, id, 1, "a hand-back was charged")
			var spawns []job.Spawn
			waitFor(t, "all spawns to have ended", func() bool {
				spawns = w.spawns(id)
				return !slices.ContainsFunc(spawns, job.Spawn.Live)
			})
			if len(spawns) < 3 {
				t.Errorf("%d spawns: want a job of several invocations", len(spawns))
			}
			sum := 0.0
			for _, x := range spawns {
				sum += x.CostUSD
				if x.CostUSD <= 0 {
					t.Errorf("spawn %s (%s, %s) has no cost", x.ID, x.Outcome, x.Reason)
				}
				if invocation == "RequestResponse" && !strings.Contains(x.LogTail, "REPORT RequestId") {
					t.Errorf("spawn %s has the log %q, want the REPORT of its invocation", x.ID, x.LogTail)
				}
			}
			if j := w.waitTerminal(id); j.CostUSD < 0.999*sum || j.CostUSD > 1.001*sum {
				t.Errorf("the job cost %v USD, its spawns %v", j.CostUSD, sum)
			}
			t.Logf("%d invocations, %.6f USD", len(spawns), sum)
		})
	}
}

// TestLambdaCommandOfTheDocument runs the command line of auto-spawn.md with its addresses swapped: the Manager listens on the loopback, and
// so does what stands for AWS.
func TestLambdaCommandOfTheDocument(t *testing.T) {
	t.Parallel()
	const command = `
  -dsn 'postgres://user:pass@rds.amazonaws.com/gmaps'
  -rabbitmq-url 'amqps://user:pass@rabbitmq.amazonaws.com:5671/'
  -redis-addr elasticache.amazonaws.com:6379
  -spawner lambda
  -spawner-lambda-function gmaps-worker
  -spawner-lambda-region us-east-1
  -spawner-lambda-max-conc 100`
	s := realServers(t)
	flags := strings.Fields(strings.NewReplacer("'", "", "postgres://user:pass@rds.amazonaws.com/gmaps", s.postgres,
		"amqps://user:pass@rabbitmq.amazonaws.com:5671/", s.rabbitmq, "elasticache.amazonaws.com:6379", s.redis).Replace(command))
	w := newWorld(t, setup{ground: onLambda, size: 200, latency: 50 * time.Millisecond, flags: flags})
	l := newLedger(w)
	id := l.mustSubmit("document", 4, nil)
	l.balance("none: the document's Lambda command", 1)
	waitFor(t, "the worker's goodbye", func() bool {
		spawns := w.spawns(id)
		return len(spawns) == 1 && !spawns[0].Live()
	})
	if x := w.spawns(id)[0]; x.Backend != "lambda" || x.ExitCode == nil || *x.ExitCode != 0 || x.CostUSD <= 0 {
		t.Errorf("the spawn is %+v: want one of lambda, exit code 0, with its cost", x)
	}
}
