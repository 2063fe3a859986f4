package test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
)

// wakeupQueue is the one queue of the product.
const wakeupQueue = "gmaps.wakeup"

// storm publishes rings, and what is none, until ctx ends; in the middle it empties the queue. It returns how many it published.
func storm(ctx context.Context, url string) (rings int, err error) {
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	garbage := [][]byte{[]byte("ring"), nil, []byte(`{"job_id":`), []byte(strings.Repeat("\x00\xff", 5000)), []byte("ring")}
	for ; ctx.Err() == nil; rings++ {
		m := amqp.Publishing{Body: garbage[rings%len(garbage)], DeliveryMode: uint8(1 + rings%2), ContentType: "application/x-garbage"}
		if err := channel.PublishWithContext(ctx, "", wakeupQueue, false, false, m); err != nil {
			return rings, err
		}
		if rings%200 == 199 {
			if _, err := channel.QueuePurge(wakeupQueue, false); err != nil {
				return rings, err
			}
			pause(ctx, 100*time.Millisecond)
		}
	}
	return rings, nil
}

func ringsAreAStorm(t *testing.T, v victims) {
	w := newWorld(t, setup{ground: onProcess, servers: v.servers(t), size: 100, latency: 10 * time.Millisecond,
		flags: []string{"-spawner-max-workers", "3", "-lease-ttl", "1m"}}) // a lease that is lost because this machine is busy would bring a second worker
	w.stays()
	w.standing("standing")
	l := newLedger(w)
	stop := w.audit(3)
	blowing, calm := context.WithCancel(t.Context())
	var g errgroup.Group
	total := 0
	g.Go(func() (err error) {
		total, err = storm(blowing, w.servers.rabbitmq)
		return err
	})
	jobs := runs(10)
	for i := range jobs {
		l.mustSubmit(fmt.Sprintf("storm%d", i%3), 3, nil)
	}
	w.waitDrained()
	calm()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	stop()
	l.balance("storm of rings", total)
	spawns := 0
	for id := range l.jobs() {
		n := len(w.spawns(id))
		if n > 1 {
			t.Errorf("job %s had %d workers, and none of them failed", id, n)
		}
		spawns += n
	}
	t.Logf("%d rings and garbage, %d jobs, %d spawns", total, jobs, spawns)
}

// startAgain starts the Manager as a service manager does: whenever it ends, until it is ready.
func (w *world) startAgain() {
	waitFor(w.t, "a Manager that stays", func() bool {
		p := w.start("manager", w.managerEnv(), w.managerFlags("-addr", w.addr, "-data-dir", filepath.Join(w.dir, "data"))...)
		w.manager = p
		for !p.hasEnded() {
			if answers("http://" + w.addr + "/readyz") {
				return true
			}
			pause(w.t.Context(), 50*time.Millisecond)
		}
		return false
	})
}

// nemesis does to everything what comes to its mind, two things at a time, while jobs are submitted. Then all is healed.
func nemesis(t *testing.T, v victims) {
	const limit = 3
	w := newWorld(t, setup{ground: onProcess, servers: v.servers(t), size: 100, latency: 5 * time.Millisecond, flags: []string{"-spawner-max-workers", fmt.Sprint(limit)}})
	r := seeded(t)
	l := newLedger(w)
	stopAudit := w.audit(limit)

	submitting, enough := context.WithCancel(t.Context())
	defer enough()
	var g errgroup.Group
	g.Go(func() error {
		for i := 0; submitting.Err() == nil; i++ {
			if _, err := l.submit(t.Context(), fmt.Sprintf("n%d", i%5), 3, nil); err != nil {
				return err
			}
			pause(submitting, 300*time.Millisecond)
		}
		return nil
	})

	// By whom they strike; two at a time strike two. The Manager is the first to be struck and the last to be healed: it does not start
	// without its servers.
	victim := func(s *victim, name string, do func()) strike { return strike{name, do, s.heal} }
	var frozenWorkers []worker
	kinds := [][]strike{
		{
			{"Manager killed", func() { w.manager.kill() }, w.startAgain},
			{"Manager stopped", func() { w.manager.signal(syscall.SIGSTOP) }, func() { w.manager.signal(syscall.SIGCONT) }},
		}, {
			{"worker killed", func() {
				if list := w.workers(); len(list) > 0 {
					_ = list[r.IntN(len(list))].act(killed)
				}
			}, func() {}},
			{"workers stopped", func() { frozenWorkers = w.workers(); each(frozenWorkers, frozen) }, func() { each(frozenWorkers, thawed) }},
		}, {
			victim(v.rabbitmq, "RabbitMQ paused", v.rabbitmq.pause),
			victim(v.rabbitmq, "RabbitMQ killed", v.rabbitmq.kill),
			{"storm of rings", func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, _ = storm(ctx, w.servers.rabbitmq) // it may not be up again yet
			}, func() {}},
		}, {
			victim(v.redis, "Redis flushed", v.redis.flush),
			victim(v.redis, "Redis paused", v.redis.pause),
			victim(v.redis, "Redis killed", v.redis.kill),
		}, {
			victim(v.postgres, "PostgreSQL restarted", v.postgres.stop),
			victim(v.postgres, "PostgreSQL killed", v.postgres.kill),
			victim(v.postgres, "PostgreSQL paused", v.postgres.pause),
		},
	}
	deeds := runs(8)
	var done []string
	for range deeds {
		var undo []func()
		for _, i := range slices.Sorted(slices.Values(r.Perm(len(kinds))[:1+r.IntN(2)])) {
			k := kinds[i][r.IntN(len(kinds[i]))]
			done = append(done, k.name)
			k.do()
			undo = append(undo, k.undo)
		}
		pause(t.Context(), time.Duration(r.Int64N(int64(3*time.Second))))
		for _, f := range slices.Backward(undo) {
			f()
		}
		pause(t.Context(), time.Duration(r.Int64N(int64(time.Second))))
	}
	t.Logf("the nemesis did: %s", strings.Join(done, ", "))
	w.waitReady()
	enough()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	l.balance("nemesis", len(done))
	stopAudit()
	l.wantOnly(3)
	for _, name := range []string{"rabbitmq", "redis"} {
		w.waitPart(name, true)
	}
	page, err := w.client.Spawns(t.Context(), api.SpawnQuery{Live: true})
	if err == nil {
		t.Logf("%d jobs, %d spawns live at the end", len(l.jobs()), len(page.Spawns))
	}
}
