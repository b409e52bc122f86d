// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command devstack runs the development stack: `devstack dev` leaves it running
// until it is interrupted, `devstack demo` shows a rotation on it and checks
// the result. `make dev` and `make demo` build what it needs first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/parent"
)

// tenantID is the tenant of the documents' examples.
const tenantID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

func main() {
	withParent := flag.Bool("stop-with-parent", false, "stop when the process that started this one is gone")
	dir := flag.String("dir", "", "where dev keeps its files (default .dev in the repository)")
	withFleet := flag.Bool("fleet", os.Getenv("DEV_FLEET") != "0", "have dev make a fleet of tenants to look at (DEV_FLEET=0: no)")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: devstack [flags] dev|demo")
		flag.PrintDefaults()
	}
	flag.Parse()

	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := interruptible(*withParent)
	var err error
	switch flag.Arg(0) {
	case "dev":
		err = dev(ctx, *dir, *withFleet)
	case "demo":
		err = demo(ctx)
	default:
		flag.Usage()
		os.Exit(2)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
		os.Exit(1)
	}
}

// errInterrupted ends a command that was asked to stop before it was done.
var errInterrupted = errors.New("interrupted")

// interruptible is a context that ends with the first signal to stop. A second
// signal ends the program at once; its processes go with it all the same.
func interruptible(withParent bool) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	if withParent {
		go func() {
			// make can be killed in ways that it cannot pass on.
			if parent.Gone(ctx) {
				stop()
			}
		}()
	}
	return ctx, stop
}
