package spawner

import (
	"errors"
	"fmt"
	"time"
)

// SwarmConfig says what the workers' services are made of. Its zero value works with an image and an overlay network of the default names.
// The engine must be a manager of the swarm.
type SwarmConfig struct {
	// DockerConfig is as of the backend docker, but each node gets the image by itself: it asks the registry whenever it can, with the
	// credentials that this user's Docker configuration holds, and else takes what it has. PullAlways also asks for the digest of the
	// image's tag before each worker, so that all nodes run the same; PullNever wants the image on this node. A worker whose image names
	// no user by number runs as 65532, which its secrets are made readable for.
	DockerConfig
	// Constraints choose the nodes, all of them must hold: node.role==worker, node.labels.zone!=eu. Default none.
	Constraints []string
}

func (c *SwarmConfig) validate() error {
	err := c.DockerConfig.validate()
	for _, constraint := range c.Constraints {
		if !constraintForm.MatchString(constraint) {
			err = errors.Join(err, fmt.Errorf("spawner-constraint: %q: want KEY==VALUE or KEY!=VALUE, as node.role==worker", constraint))
		}
	}
	return err
}

// NewSwarm returns the backend "swarm". It does not connect: an engine that is away, or no manager of a swarm, is told by Check, and by
// each call. The engine is the one that the docker command would use. Close ends it.
func NewSwarm(cfg SwarmConfig) (*Swarm, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e, err := newEngine("swarm", cfg.Instance, cfg.Logger)
	if err != nil {
		return nil, err
	}
	s := &Swarm{engine: e, cfg: cfg, now: time.Now, creating: make(map[string]int)}
	s.ceiling.Store(4)
	return s, nil
}

// Close drops the connections to the engine. Workers go on.
func (s *Swarm) Close() error { return s.engine.close() }

// SwarmNode as the value of a variable is the name of the node that the worker runs on (docker service create, templates).
const SwarmNode = "{{.Node.Hostname}}"
