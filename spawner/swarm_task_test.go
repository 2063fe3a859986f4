package spawner

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

// What several nodes do to a task cannot be had from the one engine that tests have. States and texts are swarmkit's.
func TestSwarmTaskTellsOfItsWorker(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	nodes := []swarm.Node{
		{ID: "up", Description: swarm.NodeDescription{Hostname: "alpha"}, Status: swarm.NodeStatus{State: swarm.NodeStateReady}},
		{ID: "down", Description: swarm.NodeDescription{Hostname: "beta"}, Status: swarm.NodeStatus{State: swarm.NodeStateDown}},
	}
	type task struct {
		state, desired swarm.TaskState
		node           string
		code           int // -1: no container
		err            string
		age            time.Duration
		nowhere        bool
	}
	type want struct {
		Running bool
		Code    int
		Detail  string
	}
	for name, c := range map[string]struct {
		tasks    []task
		labels   map[string]string
		age      time.Duration
		replicas uint64
		want     want
	}{
		"running":  {tasks: []task{{state: "running", desired: "running", node: "up"}}, want: want{Running: true}},
		"complete": {tasks: []task{{state: "complete", desired: "shutdown", node: "up"}}, want: want{}},
		"failed": {
			tasks: []task{{state: "failed", desired: "shutdown", node: "up", code: 3, err: "task: non-zero exit (3)"}},
			want:  want{Code: 3},
		},
		"killed": {
			tasks: []task{{state: "failed", desired: "shutdown", node: "up", code: 137, err: "task: non-zero exit (137)"}},
			want:  want{Code: 137, Detail: "killed by signal 9"},
		},
		"not started": {
			tasks: []task{{state: "failed", desired: "shutdown", node: "up", err: "starting container failed: no such file"}},
			want:  want{Code: -1, Detail: "failed on node alpha: starting container failed: no such file"},
		},
		"image missing": {
			tasks: []task{{state: "rejected", desired: "shutdown", node: "up", code: -1, err: "No such image: i:1"}},
			want:  want{Code: -1, Detail: "image i:1 not found on node alpha: push it to a registry that all nodes reach, or load it on every node"},
		},
		"rejected": {
			tasks: []task{{state: "rejected", desired: "shutdown", node: "up", code: -1, err: "invalid mount"}},
			want:  want{Code: -1, Detail: "rejected on node alpha: invalid mount"},
		},
		"pending": {tasks: []task{{state: "pending", desired: "running", code: -1, err: "no suitable node"}}, want: want{Running: true}},
		"node down": {
			tasks: []task{{state: "running", desired: "shutdown", node: "down"}},
			want:  want{Code: -1, Detail: "its node beta is down"},
		},
		"node down a moment ago": {tasks: []task{{state: "running", desired: "running", node: "down"}}, want: want{Running: true}},
		"orphaned": {
			tasks: []task{{state: "orphaned", desired: "shutdown", node: "gone", code: -1}},
			want:  want{Code: -1, Detail: "orphaned on node gone: "},
		},
		"stopping": {
			labels: map[string]string{labelStopped: "asked to stop"},
			tasks: []task{
				{state: "pending", desired: "running", code: -1, nowhere: true},
				{state: "running", desired: "shutdown", node: "up", age: time.Minute},
			},
			want: want{Running: true},
		},
		"stopped": {
			labels: map[string]string{labelStopped: "asked to stop"},
			tasks: []task{
				{state: "pending", desired: "ready", code: -1, nowhere: true},
				{state: "shutdown", desired: "shutdown", node: "up", age: time.Minute},
			},
			want: want{},
		},
		"stopped before it was placed": {
			labels: map[string]string{labelStopped: "the swarm has placed it on no node: no suitable node"},
			tasks: []task{
				{state: "pending", desired: "running", code: -1, nowhere: true},
				{state: "pending", desired: "shutdown", code: -1, age: time.Minute},
			},
			want: want{Code: -1, Detail: "the swarm has placed it on no node: no suitable node"},
		},
		"told to stop, and about to be placed": {
			labels: map[string]string{labelStopped: "asked to stop"},
			tasks:  []task{{state: "pending", desired: "running", code: -1}},
			want:   want{Running: true},
		},
		"just made":     {replicas: 1, age: time.Second, want: want{Running: true}},
		"forgotten":     {replicas: 1, age: time.Hour, want: want{Code: -1, Detail: "the swarm no longer knows its task: was the service scaled to 0 from outside?"}},
		"scaled to 0":   {replicas: 0, age: time.Second, want: want{Code: -1, Detail: "the swarm no longer knows its task: was the service scaled to 0 from outside?"}},
		"forced by man": {tasks: []task{{state: "running", desired: "running", node: "up"}, {state: "shutdown", desired: "shutdown", node: "up", age: time.Minute}}, want: want{Running: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svc := swarm.Service{ID: "s", Meta: swarm.Meta{CreatedAt: now.Add(-c.age)}}
			svc.Spec.Labels = c.labels
			svc.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &c.replicas}
			svc.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "i:1"}
			var tasks []swarm.Task
			for _, of := range c.tasks {
				task := swarm.Task{
					Meta: swarm.Meta{CreatedAt: now.Add(-of.age)}, ServiceID: "s", NodeID: of.node, DesiredState: of.desired,
					Status: swarm.TaskStatus{State: of.state, Err: of.err},
				}
				if of.code >= 0 {
					task.Status.ContainerStatus = &swarm.ContainerStatus{ContainerID: "c", ExitCode: of.code}
				}
				if of.nowhere {
					task.Spec.Placement = &swarm.Placement{Constraints: []string{nowhere}}
				}
				tasks = append(tasks, task)
			}
			seen := lookAt(svc, tasks, nodes, now)
			got := want{Running: seen.running}
			if !seen.running {
				exit := seen.exit(svc)
				got.Code, got.Detail = exit.Code, exit.Detail
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSwarmConstraintsAreJudgedAsTheSwarmDoes(t *testing.T) {
	t.Parallel()
	n := swarm.Node{ID: "n1", Spec: swarm.NodeSpec{Role: swarm.NodeRoleManager, Annotations: swarm.Annotations{Labels: map[string]string{"zone": "eu"}}}}
	n.Description.Hostname = "alpha"
	n.Description.Engine.Labels = map[string]string{"disk": "ssd"}
	for constraint, met := range map[string]bool{
		"node.role==manager":           true,
		"node.role == Manager":         true,
		"node.role!=manager":           false,
		"node.role==worker":            false,
		"node.hostname==alpha":         true,
		"node.id!=n1":                  false,
		"node.labels.zone==eu":         true,
		"node.labels.zone==us":         false,
		"node.labels.none!=us":         true,
		"engine.labels.disk==ssd":      true,
		"node.ip==192.0.2.0/24":        true, // the swarm judges
		"node.platform.arch == x86_64": true,
	} {
		if got := unmet([]string{constraint}, n) == ""; got != met {
			t.Errorf("%s: met %v, want %v", constraint, got, met)
		}
	}
}

func TestSwarmConfigIsChecked(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]SwarmConfig{
		"spawner-constraint": {Constraints: []string{"node.role=worker"}},
		"spawner-memory":     {DockerConfig: DockerConfig{MemoryMiB: 1}},
		"instance":           {DockerConfig: DockerConfig{Instance: "a b"}},
	} {
		if _, err := NewSwarm(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
}

// The engine's own answers (Engine 20.10): to leave a swarm for a test would take others' services along.
func TestSwarmSaysHowANodeBecomesAManager(t *testing.T) {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/info"):
			_, _ = w.Write([]byte(`{"Swarm":{"LocalNodeState":"inactive"}}`))
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}`))
		}
	}))
	defer engine.Close()
	t.Setenv("DOCKER_HOST", "tcp://"+engine.Listener.Addr().String())
	s, err := NewSwarm(SwarmConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, create := s.Create(t.Context(), Spec{Name: "gmaps-worker-a", SpawnID: "a"})
	_, list := s.List(t.Context())
	for op, err := range map[string]error{"create": create, "list": list, "check": s.Check(t.Context()), "stop": s.Stop(t.Context(), "a", 0), "remove": s.Remove(t.Context(), "a")} {
		var refused *Error
		if !errors.As(err, &refused) || refused.Op != op || refused.Retry || !strings.Contains(refused.Mend, "docker swarm init") {
			t.Errorf("%s: got %#v, want a refusal that names docker swarm init", op, err)
		}
	}
}
