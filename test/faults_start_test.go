package test

import (
	"archive/tar"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"

	"gmaps-scraper/job"
)

// TestFaultWorkersThatCannotStart: the job says why it waits, with the mend; no attempt is charged; once that is mended it goes on by itself.
func TestFaultWorkersThatCannotStart(t *testing.T) {
	t.Parallel()
	later, laterInSwarm, broken := "gmaps-e2e:"+randomName(), "gmaps-e2e:"+randomName(), "gmaps-e2e:"+randomName()
	for _, c := range []struct {
		name, ground string
		flags        []string
		ruin         func(w *world, e *engine)
		says         []string
		mend         func(w *world, e *engine)
	}{
		{
			name: "image missing", ground: onDocker, flags: []string{"-spawner-image", later},
			says: []string{"image", "not found", "docker pull"},
			mend: func(_ *world, e *engine) { e.tag(later) },
		},
		{
			name: "image missing", ground: onSwarm, flags: []string{"-spawner-image", laterInSwarm},
			says: []string{"image", "not found", "docker pull"},
			mend: func(_ *world, e *engine) { e.tag(laterInSwarm) },
		},
		{
			name: "network missing", ground: onDocker,
			ruin: func(_ *world, e *engine) { e.loseNetwork() },
			says: []string{"network", "not found", "docker network create"},
			mend: func(_ *world, e *engine) { e.restoreNetwork() },
		},
		{
			name: "ends at start", ground: onDocker, flags: []string{"-spawner-image", broken},
			ruin: func(_ *world, e *engine) {
				e.build(broken, `ENTRYPOINT ["/gmaps-scraper", "-timeout", "0s"]`)
			},
			says: []string{"exit code 2", "-timeout"},
			mend: func(_ *world, e *engine) { e.tag(broken) },
		},
		{
			name: "out of memory", ground: onDocker, flags: []string{"-spawner-memory", "6"},
			says: []string{"memory", "-spawner-memory"},
			mend: func(w *world, _ *engine) { // a flag: the one that needs a restart
				w.manager.terminate(w.t)
				w.setup.flags = nil
				w.startManager()
			},
		},
	} {
		t.Run(c.name+" on "+c.ground, func(t *testing.T) {
			t.Parallel()
			engineAPI(t)
			w := newWorld(t, setup{ground: c.ground, servers: realServers(t), size: 20, flags: c.flags})
			e := w.ground.(*engine)
			if c.ruin != nil {
				c.ruin(w, e)
			}
			l := newLedger(w)
			id := l.mustSubmit("start", 2, nil)
			w.waitJob(id, "said why it waits: "+strings.Join(c.says, ", "), func(j job.Job) bool {
				return !slices.ContainsFunc(c.says, func(word string) bool { return !strings.Contains(j.Waiting, word) })
			})
			waitFor(t, "the breaker to say so too", func() bool {
				stats, err := w.client.Stats(t.Context())
				return err == nil && stats.Breaker != ""
			})
			w.wantAttempts(t, id, 0, "a worker that never began was charged")
			c.mend(w, e)
			l.balance("worker cannot start: "+c.name, 1)
			w.wantAttempts(t, id, 1, "a worker that never began was charged")
		})
	}
}

// tag gives the good image a name until the test ends.
func (e *engine) tag(name string) {
	e.t.Helper()
	if err := e.api.ImageTag(e.t.Context(), e.image, name); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.untag(name) })
}

func (e *engine) untag(name string) {
	ctx, cancel := e.ctx()
	defer cancel()
	_, _ = e.api.ImageRemove(ctx, name, image.RemoveOptions{Force: true})
}

// build makes an image from the good one until the test ends.
func (e *engine) build(name, instructions string) {
	e.t.Helper()
	file := "FROM " + e.image + "\n" + instructions + "\n"
	var tree bytes.Buffer
	archive := tar.NewWriter(&tree)
	if err := archive.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o600, Size: int64(len(file))}); err != nil {
		e.t.Fatal(err)
	}
	if _, err := archive.Write([]byte(file)); err != nil {
		e.t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		e.t.Fatal(err)
	}
	answer, err := e.api.ImageBuild(e.t.Context(), &tree, build.ImageBuildOptions{Tags: []string{name}, Remove: true, ForceRemove: true, Labels: map[string]string{mark: "e2e"}})
	if err != nil {
		e.t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || strings.Contains(string(said), `"error"`) {
		e.t.Fatalf("build %s: %v\n%s", name, err, said)
	}
	e.t.Cleanup(func() { e.untag(name) })
}

// loseNetwork removes the world's network, restoreNetwork makes it again with the same addresses: the simulator is reached by them.
func (e *engine) loseNetwork() {
	e.t.Helper()
	n, err := e.api.NetworkInspect(e.t.Context(), e.network, network.InspectOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	e.addresses = &n.IPAM
	if err := e.api.NetworkRemove(e.t.Context(), e.networkID); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) restoreNetwork() {
	e.t.Helper()
	made, err := e.api.NetworkCreate(e.t.Context(), e.network, network.CreateOptions{Driver: "bridge", IPAM: e.addresses, Labels: map[string]string{mark: "e2e"}})
	if err != nil {
		e.t.Fatal(err)
	}
	e.networkID = made.ID
}

// TestFaultManagerIsKilledBetweenCreateAndRecord kills the Manager as soon as the engine shows a new container, which is before the engine
// has started it and answered. The next Manager adopts it: there is never a second container for one spawn.
func TestFaultManagerIsKilledBetweenCreateAndRecord(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency = 20, 20*time.Millisecond
		w := newWorld(t, s)
		e := w.ground.(*engine)
		begun := time.Now()
		l := newLedger(w)
		kills := runs(map[string]int{onDocker: 4, onSwarm: 2}[s.ground])
		for range kills {
			known := e.names()
			id := l.mustSubmit("between", 2, nil)
			waitFor(t, "a new worker on the engine", func() bool {
				return slices.ContainsFunc(e.names(), func(name string) bool { return !slices.Contains(known, name) })
			})
			w.manager.kill()
			w.startManager()
			w.waitTerminal(id)
		}
		l.balance("Manager killed between create and record", kills)
		for spawn, n := range e.created(begun) {
			if n != 1 {
				t.Errorf("spawn %s had %d workers", spawn, n)
			}
		}
		if n := len(e.created(begun)); n < kills {
			t.Errorf("the engine tells of %d workers, want at least %d", n, kills)
		}
	}, onDocker, onSwarm)
}
