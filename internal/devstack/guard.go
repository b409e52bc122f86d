// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// guardScript reads "watch PID", "forget PID" and "release" from its standard
// input. If that ends without "release", the process at the other end is gone
// without having cleaned up: whatever is still watched is asked to end, and ten
// seconds later killed with its process group.
const guardScript = `
trap '' HUP INT
pids=
while read -r verb pid; do
  case $verb in
  watch) pids="$pids $pid" ;;
  forget)
    rest=
    for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done
    pids=$rest ;;
  release) exit 0 ;;
  esac
done
for path in "$@"; do [ -d "$path" ] || rm -f -- "$path"; done
for p in $pids; do kill -TERM "$p" 2>/dev/null; done
for p in $pids; do
  tries=0
  while [ $tries -lt 100 ] && kill -0 "$p" 2>/dev/null; do
    sleep 0.1
    tries=$((tries + 1))
  done
  kill -KILL -- "-$p" 2>/dev/null
done
rm -rf -- "$@"
`

// guard is a small shell process that cleans up if this process dies without
// being able to (SIGKILL, a panicking test). A pipe tells it: the kernel closes
// our end whatever happens. Linux's parent-death signal would need a thread
// that lives as long as the stack, does not exist elsewhere, and cannot reach
// the plugin, which is Vault's child.
type guard struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startGuard starts the guard; the paths go with the processes.
func startGuard(paths []string) (*guard, error) {
	args := append([]string{"-c", guardScript, "dek-devstack-guard"}, paths...)
	cmd := exec.Command("/bin/sh", args...)               // #nosec G204 -- constant script
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // outlives a kill of our group
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

func (g *guard) watch(pid int)  { g.tell(fmt.Sprintf("watch %d\n", pid)) }
func (g *guard) forget(pid int) { g.tell(fmt.Sprintf("forget %d\n", pid)) }

// tell writes one line. A guard that is gone cannot help any more, and is no
// reason to fail.
func (g *guard) tell(line string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _ = io.WriteString(g.pipe, line)
}

// release ends the guard: everything is cleaned up already.
func (g *guard) release() {
	if g == nil {
		return
	}
	g.tell("release\n")
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
