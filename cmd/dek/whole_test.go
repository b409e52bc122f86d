// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

// inMemory has the command find an engine with a tenant, and a directory of its own.
func inMemory(t *testing.T) (*clienttest.Engine, string) {
	t.Helper()
	return newEngine(t), t.TempDir()
}

// encryptedFiles leaves two encrypted files, a and b, and not their plaintexts.
func encryptedFiles(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("text"), 0o600))
		code, errs := quietly(t, "encrypt", "--tenant", tenantID, path)
		require.Equal(t, exitDone, code, errs)
		require.NoError(t, os.Remove(path))
	}
}

// quietly runs a command line without input, and returns what it told of its failures.
func quietly(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	var errs strings.Builder
	code = run(t.Context(), args, strings.NewReader(""), io.Discard, &errs)
	return code, errs.String()
}

// What is no file is not replaced by one: as root that would take /dev/null away.
func TestOnlyFilesAreReplaced(t *testing.T) {
	_, dir := inMemory(t)
	name, pipe, link := filepath.Join(dir, "a"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(name, []byte("text"), 0o600))
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.Symlink(pipe, link))
	for _, output := range []string{pipe, link, dir} {
		code, errs := quietly(t, "encrypt", "--tenant", tenantID, "--force", "--output", output, name)
		assert.Equal(t, exitUsage, code, errs)
		assert.Contains(t, errs, "is no regular file")
	}
	info, err := os.Lstat(pipe)
	require.NoError(t, err)
	assert.Equal(t, os.ModeNamedPipe, info.Mode().Type())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 3)
}

// A failure names the path that was given, not the file that would have taken its name.
func TestFailuresNameTheGivenPath(t *testing.T) {
	_, dir := inMemory(t)
	input := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(input, []byte("text"), 0o600))
	code, errs := quietly(t, "encrypt", "--tenant", tenantID, input)
	require.Equal(t, exitDone, code, errs)
	missing, below := filepath.Join(dir, "missing", "x"), filepath.Join(input, "x")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no directory":             {[]string{"encrypt", "--output", missing, input}, missing + ": no such file or directory"},
		"no directory, by force":   {[]string{"encrypt", "--force", "--output", missing, input}, missing + ": no such file or directory"},
		"no directory to decrypt":  {[]string{"decrypt", "--output", missing, input + suffix}, missing + ": no such file or directory"},
		"a file for a directory":   {[]string{"encrypt", "--output", below, input}, below + ": not a directory"},
		"the name is far too long": {[]string{"encrypt", "--output", filepath.Join(dir, strings.Repeat("x", 300)), input}, "x: file name too long"},
	} {
		t.Run(name, func(t *testing.T) {
			code, errs := quietly(t, append(c.args, "--tenant", tenantID)...)
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, errs, c.want)
			assert.NotContains(t, errs, ".dek-")
		})
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"writing":           {&os.PathError{Op: "write", Path: ".dek-1", Err: syscall.ENOSPC}, "write x: no space left on device"},
		"wrapped":           {errors.Join(errChanged, &os.PathError{Op: "write", Path: ".dek-1", Err: syscall.ENOSPC}), "write x: no space left on device"},
		"moving":            {&os.LinkError{Op: "rename", Old: ".dek-1", New: "x", Err: syscall.EACCES}, "rename x: permission denied"},
		"reading the input": {&os.PathError{Op: "read", Path: "a", Err: syscall.EIO}, "read a: input/output error"},
		"something else":    {errChanged, errChanged.Error()},
	} {
		err := naming("x", ".dek-1", c.err)
		assert.ErrorContains(t, err, c.want, name)
		assert.NotContains(t, err.Error(), ".dek-", name)
	}
}

// A file that is rewrapped stays its owner's, so that who read it before reads it.
func TestRewrappedFilesKeepTheirOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away; this test did not run")
	}
	engine, dir := inMemory(t)
	name := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(name, []byte("text"), 0o640)) // #nosec G306 -- what is to be kept
	code, errs := quietly(t, "encrypt", "--tenant", tenantID, name)
	require.Equal(t, exitDone, code, errs)
	require.NoError(t, os.Chown(name+suffix, 12345, 23456))
	engine.Rotate(tenantID)
	code, errs = quietly(t, "rewrap", "files", "--tenant", tenantID, dir)
	require.Equal(t, exitDone, code, errs)
	info, err := os.Stat(name + suffix)
	require.NoError(t, err)
	owner, is := info.Sys().(*syscall.Stat_t)
	require.True(t, is)
	assert.Equal(t, []uint32{12345, 23456, 0o640}, []uint32{owner.Uid, owner.Gid, uint32(info.Mode().Perm())})
}

// A file that only root could write with the owner that it has is told, and the others go on.
func TestFilesOfOtherOwnersAreRefused(t *testing.T) {
	engine, dir := inMemory(t)
	encryptedFiles(t, dir)
	engine.Rotate(tenantID)
	first, err := os.Stat(filepath.Join(dir, "a"+suffix))
	require.NoError(t, err)
	defer func(before func(os.FileInfo) (int, int, bool)) { ownerOf = before }(ownerOf)
	actual := ownerOf
	ownerOf = func(info os.FileInfo) (uid, gid int, known bool) {
		uid, gid, known = actual(info)
		if os.SameFile(info, first) {
			uid = 12345
		}
		return uid, gid, known
	}
	defer func(before func(*os.File, int, int) error) { chown = before }(chown)
	chown = func(*os.File, int, int) error { return syscall.EPERM }
	code, errs := quietly(t, "rewrap", "files", "--tenant", tenantID, dir)
	require.Equal(t, exitRefused, code, errs)
	assert.Contains(t, errs, "a"+suffix)
	assert.Contains(t, errs, "another owner")
	for name, version := range map[string]string{"a": "dek:v1:", "b": "dek:v2:"} {
		text, err := os.ReadFile(filepath.Join(dir, name+suffix))
		require.NoError(t, err)
		assert.Truef(t, strings.HasPrefix(string(text), version), "%s", name)
	}
}

// silent is an input that nobody writes to.
type silent struct{ asked chan struct{} }

func (s silent) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	select {}
}

// An interrupt ends a command that waits for its input, and leaves nothing behind.
func TestInterruptEndsWaitingForInput(t *testing.T) {
	_, dir := inMemory(t)
	for name, args := range map[string][]string{
		"encrypt": {"encrypt", "--tenant", tenantID, "--output", filepath.Join(dir, "out"), "-"},
		"decrypt": {"decrypt", "--tenant", tenantID, "--output", filepath.Join(dir, "out"), "-"},
		"jsonl":   {"rewrap", "jsonl", "x", "--tenant", tenantID},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			input, ended := silent{make(chan struct{})}, make(chan int)
			var out, errs strings.Builder
			go func() { ended <- run(ctx, args, input, &out, &errs) }()
			<-input.asked
			interrupt()
			select {
			case code := <-ended:
				assert.Equal(t, exitFailed, code)
				assert.Equal(t, "dek: interrupted\n", errs.String())
				assert.Empty(t, out.String())
			case <-time.After(time.Minute):
				t.Fatal("it still waits")
			}
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// A file that is deleted while others are rewrapped is none that does not open.
func TestRewrapPassesOverDeletedFiles(t *testing.T) {
	engine, dir := inMemory(t)
	encryptedFiles(t, dir)
	engine.Rotate(tenantID)
	engine.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/rewrap") {
			assert.NoError(t, os.Remove(filepath.Join(dir, "b"+suffix)))
		}
		return false
	})
	var out, errs strings.Builder
	code := run(t.Context(), []string{"rewrap", "files", "--tenant", tenantID, dir}, strings.NewReader(""), &out, &errs)
	assert.Equal(t, exitDone, code, errs.String())
	assert.Contains(t, out.String(), "1 rewrapped, 0 current already, 0 empty, 1 written by others meanwhile, 0 refused, of 2")
}

// withoutRoot runs the rest of a test as a user to whom the system's permissions apply, and
// who owns a directory of the test.
func withoutRoot(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	require.NoError(t, filepath.WalkDir(filepath.Dir(dir), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, -1))
	}))
	require.NoError(t, syscall.Seteuid(nobody))
	t.Cleanup(func() { require.NoError(t, syscall.Seteuid(0)) })
}

// What the user may not read or replace is named, and the files behind it are rewrapped.
func TestRewrapNamesFilesThatItMayNotTouch(t *testing.T) {
	engine, dir := inMemory(t)
	for _, sub := range []string{"1 closed", "2 fixed", "3 open"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
		encryptedFiles(t, filepath.Join(dir, sub))
	}
	engine.Rotate(tenantID)
	unreadable := filepath.Join(dir, "3 open", "a"+suffix)
	require.NoError(t, os.Chmod(unreadable, 0))
	require.NoError(t, os.Chmod(filepath.Join(dir, "1 closed"), 0))
	require.NoError(t, os.Chmod(filepath.Join(dir, "2 fixed"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "2 fixed"), 0o700) })
	withoutRoot(t, dir)

	var out, errs strings.Builder
	code := run(t.Context(), []string{"rewrap", "files", "--tenant", tenantID, dir}, strings.NewReader(""), &out, &errs)
	assert.Equal(t, exitRefused, code, errs.String())
	assert.Contains(t, out.String(), "1 rewrapped, 0 current already, 0 empty, 0 written by others meanwhile, 4 refused, of 5")
}

// A stream cannot be begun anew where it broke off, so a Vault that restarts is waited for.
func TestRewrapJSONLOutlastsARestart(t *testing.T) {
	engine, _ := inMemory(t)
	aead, err := aeadOf(engine, tenantID)
	require.NoError(t, err)
	text, err := aead.Encrypt([]byte("x"), nil)
	require.NoError(t, err)
	require.NoError(t, aead.Close())
	engine.Rotate(tenantID)
	var down atomic.Bool
	down.Store(true)
	engine.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if !down.CompareAndSwap(true, false) {
			return false
		}
		w.Header().Set("Retry-After", "60") // the client leaves that to its caller
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	var out, errs strings.Builder
	line := `{"x":"` + string(text) + `"}`
	code := run(t.Context(), []string{"rewrap", "jsonl", "x", "--tenant", tenantID}, strings.NewReader(line), &out, &errs)
	assert.Equal(t, exitDone, code, errs.String())
	assert.Contains(t, errs.String(), "503: Service Unavailable; waiting")
	assert.True(t, strings.HasPrefix(out.String(), `{"x":"dek:v2:`))
}

// A rate bounds the lines a second over all of the stream, also those without a text.
func TestRewrapJSONLKeepsItsRate(t *testing.T) {
	inMemory(t)
	for name, c := range map[string]struct {
		lines  int
		args   []string
		at     time.Duration // when it must not be done before
		within time.Duration
	}{
		"no rate":           {lines: 6, args: []string{"--batch", "2"}, within: time.Minute},
		"a high rate":       {lines: 6, args: []string{"--batch", "2", "--rate", "1000000"}, within: time.Minute},
		"a rate":            {lines: 6, args: []string{"--batch", "2", "--rate", "10"}, at: 400 * time.Millisecond, within: time.Minute},
		"below one":         {lines: 2, args: []string{"--batch", "1", "--rate", "0.5"}, at: 2 * time.Second, within: time.Minute},
		"of one batch":      {lines: 6, args: []string{"--rate", "0.01"}, within: time.Minute},
		"a last batch less": {lines: 5, args: []string{"--batch", "4", "--rate", "10", "--dry-run"}, at: 400 * time.Millisecond, within: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			in := strings.Repeat("{}\n", c.lines)
			var out, errs strings.Builder
			started := time.Now()
			code := run(t.Context(), append([]string{"rewrap", "jsonl", "x", "--tenant", tenantID}, c.args...), strings.NewReader(in), &out, &errs)
			took := time.Since(started)
			assert.Equal(t, exitDone, code, errs.String())
			assert.Equal(t, in, out.String())
			assert.GreaterOrEqual(t, took, c.at)
			assert.Less(t, took, c.within)
		})
	}
}

// An interrupt ends a wait for the rate, and what was done is written.
func TestInterruptEndsWaitingForTheRate(t *testing.T) {
	inMemory(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	// What is done is written before the wait, however long it has taken until then.
	out := &watcher{text: "{}\n", n: 1, stop: func() { time.AfterFunc(200*time.Millisecond, interrupt) }}
	var errs strings.Builder
	code := run(ctx, []string{"rewrap", "jsonl", "x", "--tenant", tenantID, "--batch", "1", "--rate", "0.001"}, strings.NewReader("{}\n{ }\n"), out, &errs)
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, "dek: interrupted\n", errs.String())
	assert.Equal(t, "{}\n", out.all.String())
}
