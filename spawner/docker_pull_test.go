package spawner

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// serveDocker is a Docker whose engine answers all but pulls and containers as one that has nothing.
func serveDocker(t *testing.T, cfg DockerConfig, answer http.HandlerFunc) *Docker {
	t.Helper()
	d, err := NewDocker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.engine = serveEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/json") && r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/containers/json") {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"no such thing"}`)
			return
		}
		answer(w, r)
	})
	t.Cleanup(func() { d.Close() })
	return d
}

func TestPullThatFailsTellsTheRegistrysWords(t *testing.T) {
	d := serveDocker(t, DockerConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/images/create") {
			fmt.Fprintln(w, `{"status":"Pulling from library/gmaps-scraper","id":"latest"}`)
			fmt.Fprintln(w, `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`)
		}
	})
	for range 2 { // the first failure must not stand for the second
		_, err := d.Create(t.Context(), Spec{Name: "gmaps-worker-a"})
		var refused *Error
		if !errors.As(err, &refused) || refused.Cause != "image" || !strings.Contains(refused.Reason, "manifest unknown") || refused.Mend != "build it: make image" {
			t.Errorf("got %#v, want the registry's words and a mend", err)
		}
	}
}

func TestPullThatTakesLongSaysHowFarItIs(t *testing.T) {
	broken := make(chan struct{})
	d := serveDocker(t, DockerConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/images/create") {
			fmt.Fprintln(w, `{"status":"Downloading","id":"a","progressDetail":{"current":12582912,"total":41943040}}`)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(broken) // panics at a second pull
		}
	})
	d.pulls.patience = time.Millisecond
	var refused *Error
	for said := false; !said; { // the first may come before the registry's first word
		_, err := d.Create(t.Context(), Spec{Name: "gmaps-worker-a"})
		if !errors.As(err, &refused) || refused.Cause != "image" || !refused.Retry {
			t.Fatalf("got %#v, want a refusal for the image, to be tried again", err)
		}
		said = strings.Contains(refused.Reason, "12 of 40 MiB")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-broken // Close does not leave a pull behind
}

func TestContainerHasNoInitWhereTheEngineHasNone(t *testing.T) {
	d := serveDocker(t, DockerConfig{}, func(http.ResponseWriter, *http.Request) {})
	if _, err := d.engine.client(t.Context(), "check"); err != nil {
		t.Fatal(err)
	}
	info := d.engine.known()
	if _, host := d.container(Spec{}, "", nil); host.Init == nil || !*host.Init {
		t.Error("no init where the engine says nothing")
	}
	info.InitCommit.ID = "N/A" // Engine 20.10.24 without docker-init
	d.engine.facts.Store(&info)
	if _, host := d.container(Spec{}, "", nil); host.Init != nil {
		t.Error("an init that the engine does not have: it would refuse to start the container")
	}
}

func TestListRemovesWhatWasNeverStarted(t *testing.T) {
	var removed []string
	d := serveDocker(t, DockerConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			removed = append(removed, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]+"?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		old := time.Now().Add(-time.Hour).Unix() // by the engine's clock, which proves nothing
		err := json.NewEncoder(w).Encode([]container.Summary{
			{ID: "old", Names: []string{"/gmaps-worker-old"}, State: "created", Created: old},
			{ID: "young", Names: []string{"/gmaps-worker-young"}, State: "created", Created: old},
			{ID: "ended", Names: []string{"/gmaps-worker-ended"}, State: "exited", Created: old},
		})
		if err != nil {
			t.Error(err)
		}
	})
	d.idle = map[string]time.Time{"old": time.Now().Add(-time.Hour)}
	workers, err := d.List(t.Context())
	if err != nil || len(workers) != 1 || workers[0].ID != "ended" || workers[0].Running {
		t.Errorf("list: %+v, %v; want only the ended one", workers, err)
	}
	if got := strings.Join(removed, " "); got != "old?v=1" {
		t.Errorf("removed %q, want only the old one, without force", got)
	}
}

func TestDockerConfigNamesFieldAndBound(t *testing.T) {
	for want, cfg := range map[string]DockerConfig{
		"spawner-pull":                {PullPolicy: "sometimes"},
		"spawner-memory: 5 is below":  {MemoryMiB: 5},
		"spawner-memory: -1 is below": {MemoryMiB: -1},
		"spawner-cpus":                {CPUs: 0.001},
		"spawner-pids":                {PIDs: -1},
		"instance":                    {Instance: "a b"},
	} {
		if _, err := NewDocker(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error with %q", cfg, err, want)
		}
	}
	if _, err := NewDocker(DockerConfig{}); err != nil {
		t.Errorf("zero config: %v", err)
	}
}
