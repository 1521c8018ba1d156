// Holds namespaces open: waits to be told to end, and buries orphans meanwhile. It is the first process of each pod's
// sandbox, and of the node itself.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	died := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		buryTheDead()
		select {
		case <-end:
			return
		case <-died:
		}
	}
}

func buryTheDead() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}
