// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// terminal opens a pseudo-terminal: what a command writes to tty comes out of screen.
func terminal(t *testing.T, rows, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	control := func(request uintptr, argument unsafe.Pointer) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(argument))
		require.Zero(t, errno)
	}
	var locked, number int32
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	size := [4]uint16{rows, columns}
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	return screen, tty
}

// readUntil reads the screen until it has a text n times.
func readUntil(t *testing.T, screen io.Reader, text string, n int) string {
	t.Helper()
	var all []byte
	part := make([]byte, 4096)
	for bytes.Count(all, []byte(text)) < n {
		got, err := screen.Read(part)
		require.NoError(t, err)
		all = append(all, part[:got]...)
	}
	return string(all)
}

// On a terminal status --watch draws over what it has shown, keeps it while Vault does not
// answer, and shows no more than fits.
func TestStatusWatchOnATerminal(t *testing.T) {
	e := newEngine(t)
	fleet := map[string]any{
		"tenants": 3, "index_complete": true, "as_of": "2026-01-02T03:04:05Z",
		"overdue_tenants": []string{"a", "b", "c"}, "failed_tenants": []string{"a tenant with a long name, which is cut off"},
	}
	answers(e, "/status", fleet, 503, fleet)
	for _, size := range []struct {
		rows          uint16
		shows, leaves string
	}{{40, "Overdue tenant       c" + clearLine, "lines more"}, {8, "… 7 lines more", "Oldest"}} {
		screen, tty := terminal(t, size.rows, 40)
		ctx, stop := context.WithCancel(t.Context())
		code := make(chan int)
		go func() { code <- run(ctx, []string{"status", "--watch", "--interval", "1ms"}, nil, tty, tty) }()
		seen := readUntil(t, screen, clearRest, 4)
		stop()
		go func() { _, _ = io.Copy(io.Discard, screen) }() // the command may be writing
		assert.Equal(t, exitDone, <-code)
		assert.Contains(t, seen, toHome+"Tenants              3"+clearLine)
		assert.Contains(t, seen, size.shows)
		assert.NotContains(t, seen, size.leaves)
		if size.rows == 40 {
			assert.Contains(t, seen, "No answer since ")
			assert.Contains(t, seen, "a tenant with a lo…"+clearLine)
		}
	}
}

// A bar on a terminal is no reason to fail, neither of nothing nor of more than there was.
func TestBarOnATerminal(t *testing.T) {
	for _, total := range []int{0, 1} {
		e := newEngine(t)
		with := func(status string, done int) map[string]any {
			r := rotation(status, "", done)
			r["items_to_rotate"] = map[string]int{"secrets": total}
			return r
		}
		answers(e, "/dek/rotations/"+rotationID, with("in_progress", 2), with("completed", 3))
		screen, tty := terminal(t, 24, 80)
		go func() { _, _ = io.Copy(io.Discard, screen) }()
		assert.Equal(t, exitDone, run(t.Context(), []string{"rotate", "--wait", tenantID}, nil, io.Discard, tty))
	}
}

// The bar of an import has a total, which is counted first.
func TestImportKVOnATerminal(t *testing.T) {
	f := newKVFake(t)
	for i := range 30 {
		f.secrets[fmt.Sprintf("app/%02d", i)] = kvSecret{data: `{"password":"hunter2"}`}
	}
	screen, tty := terminal(t, 24, 80)
	var out bytes.Buffer
	go func() {
		code := run(t.Context(), []string{"import", "kv2", "secret/app", tenantID, "secrets", "--batch", "10"}, nil, &out, tty)
		assert.Equal(t, exitDone, code)
		_, _ = tty.WriteString("the end\n")
	}()
	seen := readUntil(t, screen, "the end", 1)
	assert.Contains(t, seen, "importing")
	assert.Contains(t, seen, "/30")
	assert.NotContains(t, seen, "hunter2")
	assert.Contains(t, out.String(), "30 imported")
}
