// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// directory returns one that only its owner can write to, with a short path.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dek-kms-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chmod(path, mode))
}

func TestPINFile(t *testing.T) {
	file := filepath.Join(directory(t), "pin")
	for content, want := range map[string]string{
		"1234": "1234", "1234\n": "1234", "1234\r\n": "1234", " 12 34 ": " 12 34 ", strings.Repeat("1", maxPIN) + "\r\n": strings.Repeat("1", maxPIN),
	} {
		write(t, file, content, 0o400)
		pin, err := pinFromFile(file)
		require.NoError(t, err)
		require.Equal(t, want, string(pin))
		require.NoError(t, os.Remove(file))
	}
	for _, content := range []string{"", "\n", "12\n34", "12\n\n", "12\x0034", strings.Repeat("1", maxPIN+1), strings.Repeat("1", 1<<20)} {
		write(t, file, content, 0o600)
		_, err := pinFromFile(file)
		require.ErrorContains(t, err, "-pin-file must have one line")
	}
	for mode, allowed := range map[os.FileMode]bool{0o600: true, 0o440: true, 0o644: false, 0o460: false, 0o601: false} {
		write(t, file, "1234", mode)
		_, err := pinFromFile(file)
		require.Equal(t, allowed, err == nil, "%o", mode)
	}
	_, err := pinFromFile(filepath.Dir(file))
	require.ErrorContains(t, err, "not a regular file")
	_, err = pinFromFile(file + "2")
	require.ErrorContains(t, err, "-pin-file")
}

func TestPINFromAFileDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString("1234\n")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	fd, err := syscall.Dup(int(r.Fd())) // pinSource closes it
	require.NoError(t, err)
	require.NoError(t, r.Close())
	source, err := pinSource(&options{pinFD: fd})
	require.NoError(t, err)
	for range 2 {
		pin, err := source()
		require.NoError(t, err)
		require.Equal(t, "1234", string(pin))
		clear(pin)
	}
	_, err = pinSource(&options{pinFD: 1 << 20})
	require.ErrorContains(t, err, "-pin-fd")
}

// What others can replace is not used.
func TestPathsThatOthersCanChange(t *testing.T) {
	root := directory(t)
	open := filepath.Join(root, "open")
	safe := filepath.Join(open, "safe")
	require.NoError(t, os.MkdirAll(safe, 0o700))
	pin := filepath.Join(safe, "pin")
	write(t, pin, "1234", 0o600)
	link := filepath.Join(root, "link")
	require.NoError(t, os.Symlink(safe, link))
	check := func(allowed bool) {
		t.Helper()
		for _, dir := range []string{safe, link} {
			_, err := pinFromFile(filepath.Join(dir, "pin"))
			require.Equal(t, allowed, err == nil, "%s: %v", dir, err)
			require.Equal(t, allowed, trustedDir(dir) == nil)
			require.Equal(t, allowed, trustedFile(filepath.Join(dir, "pin")) == nil)
		}
	}
	check(true)
	require.NoError(t, os.Chmod(open, 0o777)) // #nosec G302 -- as somebody may have it
	check(false)
	require.NoError(t, os.Chmod(open, 0o777|os.ModeSticky)) // #nosec G302 -- as /tmp is
	check(true)
	require.NoError(t, os.Chmod(safe, 0o770|os.ModeSticky)) // #nosec G302 -- as somebody may have it
	require.Error(t, trustedDir(safe), "a socket's directory is its owner's alone")
	require.Error(t, trustedDir(pin))
	require.Error(t, trustedDir(root+"/missing"))
	require.NoError(t, os.Chmod(pin, 0o666)) // #nosec G302 -- as somebody may have it
	require.Error(t, trustedFile(pin))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chmod(safe, 0o700)) // #nosec G302 -- a directory
		require.NoError(t, os.Chmod(open, 0o700)) // #nosec G302 -- a directory
		require.NoError(t, os.Chown(open, 12345, -1))
		require.ErrorContains(t, trustedDir(safe), "another user")
	}
}

func TestSocket(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "kms.sock")
	l, err := listen(t.Context(), path, "")
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = listen(t.Context(), path, "")
	require.ErrorContains(t, err, "another process")
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after SIGKILL
	require.NoError(t, l.Close())

	l, err = listen(t.Context(), path, strconv.Itoa(os.Getegid()))
	require.NoError(t, err, "what a killed process left is replaced")
	info, err = os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)

	for _, group := range []string{"no such group", "-1", "4294967295", "1e3"} {
		_, err = listen(t.Context(), path, group)
		require.ErrorContains(t, err, "-socket-group")
	}
	write(t, path, "kept", 0o600)
	_, err = listen(t.Context(), path, "")
	require.ErrorContains(t, err, "is not a socket")
	require.FileExists(t, path)
	require.NoError(t, os.Chmod(dir, 0o770)) // #nosec G302 -- as somebody may have it
	_, err = listen(t.Context(), filepath.Join(dir, "other.sock"), "")
	require.ErrorContains(t, err, "-socket")
	_, err = listen(t.Context(), filepath.Join(dir, "missing", "kms.sock"), "")
	require.ErrorContains(t, err, "-socket")
}
