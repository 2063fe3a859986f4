package lambda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// dieWithThread has the kernel kill the child when the thread that forked it ends.
func dieWithThread(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// awaitExit waits until the child has ended, and does not reap it. It is false where a system cannot do that.
func awaitExit(pid int) bool {
	const (
		byPID       = 1 // P_PID
		siginfoSize = 128
	)
	var info [siginfoSize / 8]uint64
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if !errors.Is(errno, syscall.EINTR) {
			return errno == 0
		}
	}
}

// stopped says that the kernel has stopped a process.
func stopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := b[bytes.LastIndexByte(b, ')')+1:] // a name may hold anything
	return len(after) > 1 && after[1] == 'T'
}

// peakMiB is the most memory that a process has had, rounded up; 0 if it has ended.
func peakMiB(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, ok := bytes.Cut(b, []byte("VmHWM:"))
	line, _, _ := bytes.Cut(after, []byte("kB"))
	kib, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if !ok || err != nil {
		return 0
	}
	return (kib + 1023) / 1024
}
