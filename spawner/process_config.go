package spawner

import "log/slog"

// ProcessConfig says where worker processes come from and are kept. Dir is required.
type ProcessConfig struct {
	// Binary is the program of a worker. Default: this program.
	Binary string
	// Dir holds a folder for each worker, with its log and exit code. It must be on a local file system: the locks in it tell
	// who lives. Of two Managers with one Dir and one Instance each takes the other's workers for its own.
	Dir string
	// Instance names this installation: only its workers are listed. Letters, digits, _ . - only. Default "default".
	Instance string
	// Logger default: none.
	Logger *slog.Logger
}
