// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package localkmstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The emulator asks nobody who they are, so nobody else may reach it.
func TestEmulatorHasItsOwnNetwork(t *testing.T) {
	e, rotating := New(t, time.Now().Add(time.Hour))
	require.NotEqual(t, network(t, "self"), network(t, fmt.Sprint(e.child.Process.Pid)))
	require.True(t, strings.HasPrefix(e.Endpoint(), "http://127.0.0.1:"), e.Endpoint())

	key := e.CreateKey(nil)
	e.Stop()
	_, _, err := e.call("ListKeys", nil)
	require.Error(t, err)
	e.Start()
	for _, arn := range []string{key, rotating} {
		e.Must("Encrypt", map[string]any{"KeyId": arn, "Plaintext": "eA=="})
	}
}

// A test that is killed cannot stop the emulator.
func TestEmulatorEndsWithTheTest(t *testing.T) {
	e, _ := New(t, time.Now().Add(time.Hour))
	require.NoError(t, e.stdin.Close())
	require.Error(t, e.child.Wait())
	e.child = nil
	require.Contains(t, e.log.String(), "the test ended")
	_, _, err := e.call("ListKeys", nil)
	require.Error(t, err)
}

// network names the network that a process is in.
func network(t *testing.T, process string) string {
	t.Helper()
	name, err := os.Readlink(filepath.Join("/proc", process, "ns", "net"))
	require.NoError(t, err)
	return name
}
