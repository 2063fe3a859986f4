package spawner

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// sightOfTask is what a service's tasks say of its worker.
type sightOfTask struct {
	running bool
	// task is the one whose end is the worker's; nil: there is none, or none was ever placed.
	task *swarm.Task
	node string // its node's name
	lost bool   // its node is down: nobody knows how it ended
}

// alive are the states of a task that has not ended (swarmkit, api.TaskState).
var alive = []swarm.TaskState{
	swarm.TaskStateNew, swarm.TaskStateAllocated, swarm.TaskStatePending, swarm.TaskStateAssigned, swarm.TaskStateAccepted,
	swarm.TaskStatePreparing, swarm.TaskStateReady, swarm.TaskStateStarting, swarm.TaskStateRunning,
}

// forgottenAge is how old a service without tasks must be to have had one. It is well above what the clocks of two machines may differ by.
const forgottenAge = 15 * time.Minute

// lookAt finds the worker among the tasks of its service. There is one task, and after Stop a second that is never placed.
func lookAt(svc swarm.Service, tasks []swarm.Task, nodes []swarm.Node, now time.Time) sightOfTask {
	stopped := svc.Spec.Labels[labelStopped] != ""
	tasks = slices.SortedFunc(slices.Values(tasks), func(a, b swarm.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	var seen sightOfTask
	for _, t := range tasks {
		ends := !slices.Contains(alive, t.DesiredState)
		if t.NodeID == "" && (ends || placedNowhere(t)) {
			continue // the swarm deletes it, or it is the one that follows a Stop
		}
		seen.task, seen.node, seen.lost = &t, t.NodeID, false
		for _, n := range nodes {
			if n.ID == t.NodeID {
				seen.node = cmp.Or(n.Description.Hostname, n.ID)
				seen.lost = ends && n.Status.State == swarm.NodeStateDown
			}
		}
		if slices.Contains(alive, t.Status.State) && !seen.lost {
			seen.running = true
		}
	}
	if len(tasks) == 0 && !stopped { // not made yet; or scaled to 0, or forgotten by the swarm
		m := svc.Spec.Mode.Replicated
		seen.running = (m == nil || m.Replicas == nil || *m.Replicas > 0) && now.Sub(svc.CreatedAt) < forgottenAge
	}
	return seen
}

// placedNowhere reports whether a task was made by Stop.
func placedNowhere(t swarm.Task) bool {
	return t.Spec.Placement != nil && slices.Contains(t.Spec.Placement.Constraints, nowhere)
}

// waits says why a task is not placed on a node; empty: it is.
func (s sightOfTask) waits() string {
	if s.task == nil || s.task.NodeID != "" {
		return ""
	}
	return "the swarm has placed it on no node: " + cmp.Or(s.task.Status.Err, s.task.Status.Message)
}

// exit says how an ended worker ended.
func (s sightOfTask) exit(svc swarm.Service) Exit {
	if s.task == nil {
		e := Exit{Code: -1, Detail: svc.Spec.Labels[labelStopped], EndedAt: svc.UpdatedAt}
		if e.Detail == "" {
			e.Detail = "the swarm no longer knows its task: was the service scaled to 0 from outside?"
		}
		return e
	}
	st := s.task.Status
	e := Exit{Code: -1, EndedAt: st.Timestamp}
	if c := st.ContainerStatus; c != nil && c.ContainerID != "" && !s.lost && (c.ExitCode != 0 || st.State != swarm.TaskStateFailed) {
		e.Code = c.ExitCode
	}
	switch own := strings.HasPrefix(st.Err, "task: non-zero exit"); { // it ran, and its code says it all
	case s.lost:
		e.Detail = fmt.Sprintf("its node %s is down", s.node)
	case st.State == swarm.TaskStateRejected && strings.Contains(st.Err, "No such image"): // the swarm has no other word for it
		e.Detail = fmt.Sprintf("image %s not found on node %s: push it to a registry that all nodes reach, or load it on every node", svc.Spec.TaskTemplate.ContainerSpec.Image, s.node)
	case st.Err != "" && !own:
		e.Detail = fmt.Sprintf("%s on node %s: %s", st.State, s.node, st.Err)
	case e.Code < 0:
		e.Detail = fmt.Sprintf("%s on node %s: %s", st.State, s.node, st.Message)
	default:
		e.Detail = codeDetail(e.Code)
	}
	return e
}

// logTail returns the end of what a task has written. here: its container is on this engine's node.
func (s *Swarm) logTail(ctx context.Context, api *client.Client, t swarm.Task, here bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, swarmLogWait)
	defer cancel()
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: logLines}
	var logs io.ReadCloser
	var err error
	if here {
		logs, err = api.ContainerLogs(ctx, t.Status.ContainerStatus.ContainerID, opts)
	} else {
		logs, err = api.TaskLogs(ctx, t.ID, opts)
	}
	if err != nil {
		return "", err
	}
	defer logs.Close()
	var end lastBytes
	if _, err := stdcopy.StdCopy(&end, &end, logs); err != nil {
		return "", err
	}
	return end.String(), nil
}
