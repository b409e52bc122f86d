// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// role says what a copy of this test binary plays.
const role = "DEK_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server": // starts a plugin and is killed
		plugin := exec.Command(os.Args[0])
		plugin.Env = append(os.Environ(), role+"=plugin")
		plugin.Stdout, plugin.Stderr = os.Stdout, os.Stderr
		if err := plugin.Start(); err != nil {
			os.Exit(1)
		}
		select {}
	case "plugin":
		go endWithServer()
		_, _ = os.Stdout.WriteString("serving\n")
		select {}
	default:
		os.Exit(m.Run())
	}
}

// A server that is killed cannot tell its plugin, which must not go on with the keys
// that it has opened.
func TestPluginEndsWithItsServer(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = read.Close() }()
	server := exec.CommandContext(t.Context(), os.Args[0])
	server.Env = append(os.Environ(), role+"=server")
	server.Stdout = write // the plugin's, too
	require.NoError(t, server.Start())
	require.NoError(t, write.Close())
	says := make([]byte, len("serving\n"))
	_, err = io.ReadFull(read, says)
	require.NoError(t, err)
	require.Equal(t, "serving\n", string(says))

	require.NoError(t, server.Process.Kill())
	_ = server.Wait()
	// The pipe ends with the last process that holds it, the plugin.
	require.NoError(t, read.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = read.Read(says)
	require.ErrorIs(t, err, io.EOF, "the plugin is there 5 seconds after its server was killed")
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
