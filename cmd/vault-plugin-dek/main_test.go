// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	sdk "github.com/hashicorp/vault/sdk/plugin"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// role says what a copy of this test binary plays.
const role = "DEK_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server":
		os.Exit(playServer())
	case "plugin":
		// The command itself, with Vault's environment for a plugin.
		_ = run(nil, hclog.NewNullLogger())
		os.Exit(1)
	default:
		os.Exit(m.Run())
	}
}

// playServer starts a plugin, tells its process ID and is killed. The plugin holds the
// write end of a pipe, which ends with the last process that holds it.
func playServer() (code int) {
	alive := os.NewFile(3, "alive")
	plugin := exec.Command(os.Args[0])
	plugin.Env = append(os.Environ(), role+"=plugin", api.PluginAutoMTLSEnv+"=true", "PLUGIN_PROTOCOL_VERSIONS=5",
		sdk.HandshakeConfig.MagicCookieKey+"="+sdk.HandshakeConfig.MagicCookieValue)
	plugin.Stdout, plugin.ExtraFiles = os.Stdout, []*os.File{alive}
	if err := plugin.Start(); err != nil {
		return 1
	}
	if _, err := fmt.Fprintln(alive, plugin.Process.Pid); err != nil {
		return 1
	}
	_ = plugin.Wait()
	return 1
}

// A server that is killed cannot tell its plugin, which must not go on with the keys
// that it has opened.
func TestPluginEndsWithItsServer(t *testing.T) {
	alive, held, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = alive.Close() }()
	server := exec.CommandContext(t.Context(), os.Args[0])
	server.Env = append(os.Environ(), role+"=server")
	server.ExtraFiles = []*os.File{held}
	says, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	require.NoError(t, held.Close())
	pid := 0
	_, err = fmt.Fscanln(alive, &pid)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it would go on after the test
		}
	})
	line, err := bufio.NewReader(says).ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^1\|5\|unix\|\S+\|grpc`, line, "the plugin serves, by the protocol that Vault uses")

	require.NoError(t, server.Process.Kill())
	_ = server.Wait()
	// It notices within 5 seconds; the rest is for a machine that is busy.
	require.NoError(t, alive.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the plugin is there a minute after its server was killed")
}

func TestVersionIsNoError(t *testing.T) {
	for _, flag := range []string{"-version", "--version"} {
		require.ErrorIs(t, run([]string{flag}, hclog.NewNullLogger()), errVersion)
	}
	require.ErrorContains(t, run([]string{"-no-such-flag"}, hclog.NewNullLogger()), "no-such-flag")
}

// What is installed is the program itself, executable. A file that is there, which Vault
// may have registered, is never written over.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	require.ErrorIs(t, run([]string{"-install", dir}, hclog.NewNullLogger()), errInstalled)
	file := filepath.Join(dir, "vault-plugin-dek_"+version.Version())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())
	sum, err := version.FileSHA256(file)
	require.NoError(t, err)
	require.Equal(t, version.SHA256(), sum)

	require.ErrorIs(t, run([]string{"-install", dir}, hclog.NewNullLogger()), errInstalled, "again")
	again, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, info.ModTime(), again.ModTime())

	require.NoError(t, os.WriteFile(file, []byte("another"), 0o755))
	require.ErrorContains(t, run([]string{"-install", dir}, hclog.NewNullLogger()), "another program")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing half done is left")
	require.ErrorIs(t, run([]string{"-install", filepath.Join(dir, "none")}, hclog.NewNullLogger()), os.ErrNotExist)
}
