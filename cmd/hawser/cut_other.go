//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// cutWays: there is none on this system.
func cutWays() []*syscall.SysProcAttr { return nil }

func loopbackUp() error { return errors.New("this system has no networks of a process's own") }
