//go:build !(linux || darwin)

package spawner

import (
	"errors"
	"runtime"
)

// Process needs sessions and inherited file locks: it is there on Linux and macOS only.
type Process struct{ Spawner }

// NewProcess says that this system lacks the backend.
func NewProcess(ProcessConfig) (*Process, error) {
	return nil, errors.New("process spawner: not on " + runtime.GOOS + "; start workers by hand: gmaps-scraper -worker -manager-url URL")
}
