package natstest

import "syscall"

// attributes have a server end with the test, also one that is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
