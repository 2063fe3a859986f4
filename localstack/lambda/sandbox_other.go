//go:build !unix

package lambda

import (
	"errors"
	"runtime"
)

func newStarter(Config, string) (starter, error) {
	return nil, errors.New("lambda: the local Lambda emulator does not run on " + runtime.GOOS + "; run it on Linux or macOS")
}

func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
