//go:build unix && !linux

package lambda

import "syscall"

// dieWithThread is for Linux only; here the watchdog alone ends a group.
func dieWithThread(*syscall.SysProcAttr) {}

// awaitExit is for Linux only. Between reaping and the last signal the group's number could become another's, in theory.
func awaitExit(int) bool { return false }

// stopped believes what was asked for.
func stopped(int) bool { return true }

// peakMiB is not measured here.
func peakMiB(int) int { return 0 }
