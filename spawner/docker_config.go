package spawner

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// PullPolicy says when the engine asks a registry for the workers' image.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing" // if the engine lacks it
	PullAlways  PullPolicy = "always"  // before each worker; what is there already is not sent again
	PullNever   PullPolicy = "never"
)

// Bounds of a worker's container that suit both engines, http and browser. Flags start from them; a zero in DockerConfig means none.
const (
	DefaultMemoryMiB = 1024
	DefaultPIDs      = 512 // threads count: a browser of four tabs has about 150
)

const leastMemoryMiB = 6 // the engine's own bound (dockerd, "Minimum memory limit allowed is 6MB")

// DockerConfig says what the workers' containers are made of. Its zero value works with an image and a network of the default names.
type DockerConfig struct {
	// Image of a worker; its entrypoint is the program. Default gmaps-scraper:latest.
	Image string
	// Network that workers are attached to. Default gmaps-network.
	Network string
	// Instance names this installation: only its workers are listed. Of two Managers with one Instance on one engine each takes the
	// other's workers for its own. Letters, digits, _ . - only. Default "default".
	Instance string
	// PullPolicy default: PullMissing.
	PullPolicy PullPolicy
	// MemoryMiB bounds a worker's memory; what needs more is killed. It includes /tmp, which is kept in memory. 0: no bound.
	MemoryMiB int
	// CPUs bounds a worker's processor time, in processors: 0.5. 0: no bound.
	CPUs float64
	// PIDs bounds a worker's processes and threads. 0: no bound.
	PIDs int
	// Logger default: none.
	Logger *slog.Logger
}

func (c *DockerConfig) setDefaults() {
	if c.Image == "" {
		c.Image = "gmaps-scraper:latest"
	}
	if c.Network == "" {
		c.Network = "gmaps-network"
	}
	if c.PullPolicy == "" {
		c.PullPolicy = PullMissing
	}
}

func (c *DockerConfig) validate() error {
	var errs []error
	if !slices.Contains([]PullPolicy{PullMissing, PullAlways, PullNever}, c.PullPolicy) {
		errs = append(errs, fmt.Errorf("spawner-pull: %q is none of missing, always, never", c.PullPolicy))
	}
	if c.MemoryMiB != 0 && c.MemoryMiB < leastMemoryMiB {
		errs = append(errs, fmt.Errorf("spawner-memory: %d is below %d MiB", c.MemoryMiB, leastMemoryMiB))
	}
	if c.CPUs < 0 || c.CPUs > 0 && c.CPUs < 0.01 {
		errs = append(errs, fmt.Errorf("spawner-cpus: %v is below 0.01", c.CPUs))
	}
	if c.PIDs < 0 {
		errs = append(errs, fmt.Errorf("spawner-pids: %d is below 0", c.PIDs))
	}
	return errors.Join(errs...)
}
