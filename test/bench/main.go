// Command bench measures ours against a named baseline in one run, interleaved, and prints ratios: a time alone says more of the machine than of the code.
//
//	go run ./test/bench [-only B6,B7] [-rounds 5]
//
// It exits with 1 if a bench could not run or missed its goal: a bench that lacks its baseline fails, it is never skipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// bench is one comparison.
type bench struct {
	id    string
	title string // "ours ÷ baseline", in words
	// run measures ours and the baseline by turns, at least rounds times each.
	run func(ctx context.Context, rounds int) (result, error)
}

// benches is the table; each has a file of its own.
func benches() []bench {
	return []bench{
		{"B1", "POST /jobs → first request of the worker spawned for it ÷ Engine API create + start → the same binary's first request, one at a time", benchFirstRequest},
		{"B2", "200 jobs of one task at a cap of 4, until all is gone ÷ the Engine API, 4 at a time, with the same binary doing the same work", benchManyJobs},
		{"B3", "creating a job at the Manager's API → its lease with a worker that waits ÷ River's Insert → Work, cooldown of 1 ms, same PostgreSQL", benchLease},
		{"B4", "jobs created a second, each a transaction of its own and a ring, 8 writers ÷ River's Insert, same PostgreSQL", benchSubmit},
		{"B5", "results handed in over HTTP, rows/s ÷ unnest … ON CONFLICT DO NOTHING of the same rows in batches of the same size, same PostgreSQL", benchIngest},
		{"B6", "decode one place payload, all fields ÷ encoding/json into any", benchDecode},
		{"B7", "places/s of the http engine against the simulator ÷ a bare net/http loop over the same requests", benchEngine},
		{"B8", "memory that a queued job adds to the Manager's process ÷ 1 KB", benchMemory},
		{"B9", "a page of jobs and of results with 1 M results ÷ the same with 1 k", benchPages},
		{"B10", "peak memory of an export of 1,000,000 results to CSV ÷ of 10,000", benchExport},
		{"B12", "cold start of the Lambda function: Invoke → first request at the Manager ÷ the same bootstrap by itself", benchColdStart},
	}
}

// result is what a bench found out.
type result struct {
	ratios []ratio
	notes  []string // absolute figures and circumstances, for reading only
}

// ratio is one measure of ours against the baseline's, a sample for each round.
type ratio struct {
	name    string // "time", "allocations"
	samples []float64
	goal    goal
}

// goal bounds the median of a ratio.
type goal struct {
	limit   float64
	atLeast bool // else at most
}

func atMost(limit float64) goal  { return goal{limit: limit} }
func atLeast(limit float64) goal { return goal{limit: limit, atLeast: true} }

func (g goal) met(median float64) bool {
	if g.atLeast {
		return median >= g.limit
	}
	return median <= g.limit
}

func (g goal) String() string {
	if g.atLeast {
		return fmt.Sprintf("≥ %g", g.limit)
	}
	return fmt.Sprintf("≤ %g", g.limit)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, benches())
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const minRounds = 5

func run(ctx context.Context, args []string, out io.Writer, all []bench) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "ids of the benches to run, with commas between; default all")
	rounds := flags.Int("rounds", minRounds, "rounds of ours and baseline by turns, at least 5")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rounds < minRounds {
		return fmt.Errorf("-rounds: %d is below %d", *rounds, minRounds)
	}
	chosen, err := choose(all, *only)
	if err != nil {
		return err
	}
	var bad []string
	for _, b := range chosen {
		fmt.Fprintf(out, "%s  %s\n", b.id, b.title)
		r, err := b.run(ctx, *rounds)
		if err == nil {
			err = r.check(*rounds)
		}
		if err != nil {
			fmt.Fprintf(out, "    FAILED: %v\n", err)
			bad = append(bad, b.id)
			continue
		}
		if !r.print(out) {
			bad = append(bad, b.id)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("failed or missed its goal: %s", strings.Join(bad, ", "))
	}
	return nil
}

func choose(all []bench, only string) ([]bench, error) {
	if only == "" {
		return all, nil
	}
	var chosen []bench
	for id := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(b bench) bool { return strings.EqualFold(b.id, strings.TrimSpace(id)) })
		if i < 0 {
			return nil, fmt.Errorf("-only: no bench %q", id)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// check refuses a result that compares nothing.
func (r result) check(rounds int) error {
	if len(r.ratios) == 0 {
		return errors.New("no ratio measured")
	}
	for _, one := range r.ratios {
		if len(one.samples) < rounds {
			return fmt.Errorf("%s: %d samples in %d rounds", one.name, len(one.samples), rounds)
		}
	}
	return nil
}

func (r result) print(out io.Writer) (met bool) {
	met = true
	for _, one := range r.ratios {
		s := slices.Sorted(slices.Values(one.samples))
		median := (s[(len(s)-1)/2] + s[len(s)/2]) / 2
		verdict := "met"
		if !one.goal.met(median) {
			verdict, met = "MISSED", false
		}
		fmt.Fprintf(out, "    %-23s median %.4f  min %.4f  max %.4f  goal %s  %s\n", one.name, median, s[0], s[len(s)-1], one.goal, verdict)
	}
	for _, note := range r.notes {
		fmt.Fprintf(out, "    %s\n", note)
	}
	return met
}
