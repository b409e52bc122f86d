// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// listen makes the socket. Only this process's user can connect to it, and the group, if
// there is one. It has those permissions from its first moment.
func listen(ctx context.Context, path, group string) (net.Listener, error) {
	if err := trustedDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("-socket: %w: its directory must be of this user or root, and nobody else may write to it", err)
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("-socket: %w", err)
	}
	was := syscall.Umask(0o177)
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	syscall.Umask(was)
	if err != nil {
		return nil, fmt.Errorf("-socket: %w", err)
	}
	if group != "" {
		err = os.Chown(path, -1, gid) // #nosec G703 -- the operator names the path
		if err == nil {
			err = os.Chmod(path, 0o660) // #nosec G302 G703 -- the group is to connect
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("-socket-group: %w", err), l.Close())
		}
	}
	return l, nil
}

// groupID returns the ID of a group by its name or number, and -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if found, err := user.LookupGroup(group); err == nil {
		group = found.Gid
	}
	gid, err := strconv.ParseUint(group, 10, 31)
	if err != nil {
		return -1, errors.New("-socket-group must be the name or the number of a group of this machine")
	}
	return int(gid), nil
}

// removeStale removes the socket that a killed process left.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path) // #nosec G703 -- the operator names the path
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there, and is not a socket", path)
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("another process serves %s", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}
	return os.Remove(path) // #nosec G703 -- the operator names the path
}
