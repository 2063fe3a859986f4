package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// skewVariable says by how many seconds the clock of a skewed program is off.
const skewVariable = "GMAPS_TEST_CLOCK_SKEW"

// skewed builds the program under test with a clock that is off by skewVariable. A static Go program takes the time from the kernel itself,
// past any library that could be put before it, so that it is package time that is changed: by the build's overlay, and for the wall clock
// only, as when a clock is set wrong. The overlay stays at one place, so that the build is cached and costs once.
func skewed(t *testing.T) string {
	t.Helper()
	binary(t) // or skip
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gmaps-scraper-test", "skewed-clock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	clock, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now, reading = "\nfunc Now() Time {\n", "\tsec, nsec, mono := runtimeNow()\n"
	before, after, found := bytes.Cut(clock, []byte(now+reading))
	if !found {
		t.Fatalf("%s/time.go does not begin Now with %q: this Go reads the clock in another way", src, reading)
	}
	keep(t, filepath.Join(dir, "time.go"), string(before)+now+reading+"\tsec += testSkew\n"+string(after))
	keep(t, filepath.Join(dir, "skew.go"), `package time

import "syscall"

var testSkew = func() (n int64) {
	text, _ := syscall.Getenv("`+skewVariable+`")
	sign := int64(1)
	for _, c := range text {
		switch {
		case c == '-':
			sign = -1
		case '0' <= c && c <= '9':
			n = 10*n + int64(c-'0')
		}
	}
	return sign * n
}()
`)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(src, "time.go"): filepath.Join(dir, "time.go"), filepath.Join(src, "skew.go"): filepath.Join(dir, "skew.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	keep(t, filepath.Join(dir, "overlay.json"), string(overlay))
	built := filepath.Join(t.TempDir(), "gmaps-skewed")
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", built, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with a skewed clock: %v\n%s", err, out)
	}
	return built
}

// keep writes a file unless it is so already.
func keep(t *testing.T, name, content string) {
	t.Helper()
	if b, err := os.ReadFile(name); err == nil && string(b) == content {
		return
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFaultClocksAreWrong has a Manager whose clock is ten minutes off one way, and workers whose clocks are off the other way. A lease that
// went by any of them would end at once, or not within this test.
func TestFaultClocksAreWrong(t *testing.T) {
	t.Parallel()
	bin := skewed(t)
	for name, skew := range map[string][2]string{"Manager ahead": {"600", "-600"}, "Manager behind": {"-600", "600"}} {
		t.Run(name, func(t *testing.T) {
			s := realServers(t)
			w := newWorld(t, setup{ground: onProcess, servers: s, bin: bin, env: []string{skewVariable + "=" + skew[0]}, size: 300, latency: 1200 * time.Millisecond,
				flags: []string{"-spawner-max-workers", "1", "-spawner-concurrency", "2"}})
			w.stays()
			began := time.Now()
			w.standing("standing", skewVariable+"="+skew[1])
			l := newLedger(w)
			stop := w.audit(1)

			// Tasks that last longer than a lease: nobody loses his.
			long := l.mustSubmit("long", 6, nil)
			if j := w.waitTerminal(long); j.EndedAt.Sub(j.CreatedAt) < 2*leaseTTL {
				t.Errorf("the long job took %s: that shows nothing about leases of %s", j.EndedAt.Sub(j.CreatedAt), leaseTTL)
			}
			w.wantAttempts(t, long, 1, "a lease ended before its time")
			stop()

			// A worker that falls silent: its lease ends, and not in ten minutes.
			silent := l.mustSubmit("silent", 6, func(n *api.NewJob) { n.MaxWorkers = 1 })
			waitFor(t, "a spawned worker with a lease", func() bool {
				return len(w.workers()) == 1 && leased(w.waitJob(silent, "counts", func(job.Job) bool { return true }))
			})
			asleep := w.workers()
			each(asleep, frozen)
			defer each(asleep, thawed)
			w.waitTerminal(silent)
			each(asleep, thawed)
			l.balance("clock off by ten minutes: "+name, 1)

			// And what is shown as a time is that of the database.
			for id := range l.jobs() {
				j := w.waitTerminal(id)
				for what, at := range map[string]time.Time{"created": j.CreatedAt, "ended": j.EndedAt} {
					if at.Before(began.Add(-patience)) || at.After(time.Now().Add(patience)) {
						t.Errorf("job %s was %s at %s: that is a clock of somebody's own", id, what, at)
					}
				}
			}
		})
	}
}

// TestSkewedClock holds the skewed program to being skewed, or the fault above shows nothing.
func TestSkewedClock(t *testing.T) {
	bin := skewed(t)
	for _, skew := range []string{"600", "-600"} {
		d := doctorClock(t, bin, skew)
		want, _ := time.ParseDuration(skew + "s")
		if diff := (d - want).Abs(); diff > time.Minute {
			t.Errorf("with %s=%s the clock is off by %s", skewVariable, skew, d)
		}
	}
}

// doctorClock is how far off a program's own log is.
func doctorClock(t *testing.T, bin, skew string) time.Duration {
	t.Helper()
	w := &world{t: t, bin: bin, dir: t.TempDir()}
	addr := freeAddr(t)
	p := w.start("clock", []string{skewVariable + "=" + skew}, "-simulator", "-addr", addr, "-log-format", "json")
	defer p.kill()
	waitFor(t, "simulator", func() bool { return answers("http://" + addr + "/healthz") })
	b, err := os.ReadFile(filepath.Join(w.dir, "clock.log"))
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Time time.Time }
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&line); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return time.Until(line.Time)
}
