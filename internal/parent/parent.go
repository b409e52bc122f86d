// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package parent tells a process that the one that started it is gone. A process that is
// killed with SIGKILL cannot tell its children, which go on under another parent.
//
// Linux could send a signal instead (PR_SET_PDEATHSIG), but sends it when the thread
// ends that started the process, which in a Go program may be at any time.
package parent

import (
	"context"
	"os"
	"time"
)

// started is the parent that started this process.
var started = os.Getppid()

// every is how often the parent is asked for.
const every = 500 * time.Millisecond

// Gone waits until the parent of this process is another than the one that started it,
// and then returns true; it returns false when ctx ends.
func Gone(ctx context.Context) bool {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
			if os.Getppid() != started {
				return true
			}
		}
	}
}
