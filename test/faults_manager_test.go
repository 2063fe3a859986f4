package test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/job"
)

func TestFaultManagerIsKilledWhileJobsAreSubmitted(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 60, 5*time.Millisecond, []string{"-spawner-max-workers", "3"}
		w := newWorld(t, s)
		l, r := newLedger(w), seeded(t)
		kills := runs(20)

		ctx, stop := context.WithTimeout(t.Context(), time.Duration(kills)*10*time.Second)
		defer stop()
		submitting, enough := context.WithCancel(ctx)
		defer enough()
		var g errgroup.Group
		g.Go(func() error {
			for i := 0; submitting.Err() == nil; i++ {
				if _, err := l.submit(ctx, fmt.Sprintf("m%d", i%5), 3, nil); err != nil {
					return err
				}
				pause(submitting, map[string]time.Duration{onProcess: 100 * time.Millisecond, onDocker: 600 * time.Millisecond}[s.ground])
			}
			return nil
		})
		for range kills {
			pause(ctx, time.Duration(r.IntN(700))*time.Millisecond)
			w.manager.kill()
			w.startManager()
		}
		enough()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		l.balance("Manager killed while jobs are submitted", kills)
	}, onProcess, onDocker)
}

func TestFaultManagerAwayLosesNoWork(t *testing.T) {
	t.Parallel()
	long := max(3*leaseTTL, time.Duration(min(runs(0), 120))*time.Second)
	for name, away := range map[string]func(*world){
		"stopped": func(w *world) {
			w.manager.signal(syscall.SIGSTOP)
			pause(t.Context(), long)
			w.manager.signal(syscall.SIGCONT)
		},
		"killed": func(w *world) {
			w.manager.kill()
			pause(t.Context(), long)
			w.startManager()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachGround(t, func(t *testing.T, s setup) {
				s.size, s.latency, s.flags = 600, 100*time.Millisecond, []string{"-spawner-concurrency", "2"}
				w := newWorld(t, s)
				l := newLedger(w)
				id := l.mustSubmit("away", 4, nil)
				w.waitJob(id, "rows", func(j job.Job) bool { return j.Counts.Places > 0 })
				away(w)
				l.balance("Manager "+name+" past all leases", 1)
				w.wantAttempts(t, id, 1, "its work was thrown away")
			}, onProcess, onDocker)
		})
	}
}
