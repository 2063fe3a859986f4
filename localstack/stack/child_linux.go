package main

import "syscall"

// dieWithUs has the kernel end the child when the thread that starts it does: after kill -9, nobody else would.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
