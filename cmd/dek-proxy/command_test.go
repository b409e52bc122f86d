// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asCommand tells the test binary, started again, to be the command, and asFlooder
// to flood the address that it names.
const (
	asCommand = "DEK_PROXY_TEST_AS_COMMAND"
	asFlooder = "DEK_PROXY_TEST_AS_FLOODER"
)

// processLimit is how long a test waits for another process, to which a busy machine may leave
// little.
const processLimit = 5 * time.Minute

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asCommand) != "":
		main()
	case os.Getenv(asFlooder) != "":
		fmt.Print(flood(os.Getenv(asFlooder)))
	default:
		os.Exit(m.Run())
	}
}

// startCommand runs the command in a process of its own until the test ends.
func startCommand(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, address string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "address")
	cmd = exec.Command(os.Args[0], append(args, "-listen", "127.0.0.1:0", "-listen-file", file)...)
	cmd.Env = append(env, asCommand+"=yes")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	return cmd, waitForAddress(t, file)
}

func waitForAddress(t *testing.T, file string) (address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(file)
		address = strings.TrimSpace(string(raw))
		return err == nil
	}, processLimit, 5*time.Millisecond)
	return address
}

// listenFile is the file that the command writes its address to.
func listenFile(cmd *exec.Cmd) string { return cmd.Args[len(cmd.Args)-1] }
