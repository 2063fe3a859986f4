//go:build unix && !linux

package main

import "syscall"

// dieWithUs is for Linux only, as is all of the offline form.
func dieWithUs(*syscall.SysProcAttr) {}
