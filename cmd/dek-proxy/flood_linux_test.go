// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// healthLimit is what an answer of /health may take during a flood, on a machine that has at
// least one processor for it.
const healthLimit = 100 * time.Millisecond

// TestFloodOfLargeBodies: the proxy stays small, and answers its health meanwhile.
func TestFloodOfLargeBodies(t *testing.T) {
	require.Greater(t, len(manyKeys()), 950<<10)
	require.LessOrEqual(t, len(manyKeys()), 1<<20)
	cmd, address := startCommand(t, []string{"VAULT_ADDR=http://127.0.0.1:1"})

	flooder := exec.Command(os.Args[0])
	flooder.Env = []string{asFlooder + "=" + address}
	var refused bytes.Buffer
	flooder.Stdout = &refused
	began, before := time.Now(), processorTime(t, os.Getpid(), cmd.Process.Pid)
	require.NoError(t, flooder.Start())
	done := make(chan error, 1)
	go func() { done <- flooder.Wait() }()
	took := healthUntil(t, address, done)
	lasted, used := time.Since(began), processorTime(t, os.Getpid(), cmd.Process.Pid)-before
	used += flooder.ProcessState.UserTime() + flooder.ProcessState.SystemTime()

	require.Equal(t, strconv.Itoa(senders), refused.String())
	peak, middle, late := peakMemory(t, cmd.Process.Pid), took[len(took)/2], took[len(took)*95/100]
	t.Logf("flood_peak_rss %d MiB, flood_health_p50 %v, flood_health_p95 %v, slowest %v of %d, with %.1f processors",
		peak>>20, middle, late, took[len(took)-1], len(took), used.Seconds()/lasted.Seconds())
	require.Less(t, peak, 200<<20, "bytes of resident memory at most")
	// Three processes share the machine with others, so the slowest is the machine's. The flood
	// keeps more than one processor busy. If others leave it less, all takes longer in proportion.
	limit := time.Duration(float64(healthLimit) * max(1, lasted.Seconds()/used.Seconds()))
	require.Less(t, late, limit)
}

// healthUntil asks for the health, one request after the other, until done, and
// returns how long each took, in ascending order. The Vault of the test is out of
// reach, so the answer is 503; it must come at once.
func healthUntil(t *testing.T, address string, done <-chan error) (took []time.Duration) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, get(t, client, "http://"+address+"/health"))
		took = append(took, time.Since(start))
		select {
		case err := <-done:
			require.NoError(t, err)
			slices.Sort(took)
			return took
		default:
		}
	}
}

// processorTime is what processes have used up to now.
func processorTime(t *testing.T, pids ...int) (used time.Duration) {
	t.Helper()
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(raw), ") ") // behind the command's name
		fields := strings.Fields(rest)
		require.Greater(t, len(fields), 12)
		for _, field := range fields[11:13] { // user and system, in hundredths of a second
			ticks, err := strconv.Atoi(field)
			require.NoError(t, err)
			used += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return used
}

// peakMemory is the most resident memory a process has had, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			require.NoError(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}
