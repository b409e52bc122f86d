// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// errChanged is a file that somebody else wrote while it was rewrapped.
var errChanged = errors.New("the file was changed meanwhile")

// errNotEncrypted is a file that encrypt did not make. Where it was named it does not open.
var errNotEncrypted = fmt.Errorf("%w: it does not begin as an encrypted file", client.ErrMalformed)

func (a *app) rewrapFilesCommand() *cobra.Command {
	var tenant string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "files --tenant TENANT PATH...",
		Short: "Bring the first lines of encrypted files to the current version",
		Long: `Bring the first line of encrypted files to the current version of the tenant's
key. Directories are walked, and what is not encrypted in them is passed over.

The first line has the file's data key, sealed by the tenant's key: only that is
sealed anew. The content stays as it is, and so does its data key: if a data key
has leaked, decrypt the file and encrypt it again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tenant == "" {
				return usage("--tenant is needed")
			}
			t, err := a.tenant(tenant)
			if err != nil {
				return err
			}
			return a.rewrapFiles(cmd.Context(), t, args, dryRun)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's ID")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "look, and change nothing")
	return cmd
}

func (a *app) rewrapFiles(ctx context.Context, t *client.Tenant, paths []string, dryRun bool) error {
	current, err := t.CurrentVersion(ctx)
	if err != nil {
		return err
	}
	var p client.Progress
	one := func(path string, named bool) error {
		p.Scanned++
		changed, err := rewrapFile(ctx, t, path, current, dryRun)
		switch {
		case errors.Is(err, errNotEncrypted) && !named:
			p.Empty++
		case errors.Is(err, errChanged), errors.Is(err, fs.ErrNotExist) && !named: // deleted after it was listed
			p.Raced++
		case client.DoesNotOpen(err), errors.Is(err, fs.ErrPermission):
			p.Refused++
			a.tellRefused(path, err)
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case changed:
			p.Rewrapped++
		default:
			p.Current++
		}
		return ctx.Err()
	}
	closed := func(path string, err error) {
		p.Scanned++
		p.Refused++
		a.tellRefused(path, err)
	}
	for _, path := range paths {
		if err := walk(path, one, closed); err != nil {
			return err
		}
	}
	if p.Rewrapped > 0 && !a.json {
		a.say("The contents keep their data keys: only the first lines were sealed anew.")
	}
	return a.tellSummary(p, dryRun)
}

// walk calls one for each regular file at or below path; named says that it is
// path itself. It calls closed for each directory that the user may not read, and goes on
// behind it.
func walk(path string, one func(path string, named bool) error, closed func(path string, err error)) error {
	return filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && at != path {
			return nil // a directory that was deleted after it was listed
		}
		if errors.Is(err, fs.ErrPermission) {
			closed(at, err)
			return nil
		}
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			if at == path && !entry.IsDir() {
				return fmt.Errorf("%s is no regular file", path)
			}
			return nil
		}
		return one(at, at == path)
	})
}

// rewrapFile brings one file to the current version, and reports whether it was
// of another.
func rewrapFile(ctx context.Context, t *client.Tenant, path string, current int, dryRun bool) (changed bool, err error) {
	f, err := os.Open(path) // #nosec G304 -- what the user names
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return false, err
	}
	r := bufio.NewReader(f)
	if !startsEncrypted(r) {
		return false, errNotEncrypted
	}
	line, err := client.ReadFirstLine(r)
	if err != nil {
		return false, err
	}
	version, err := client.VersionOf(line)
	if err != nil || version == current {
		return false, err
	}
	next, err := t.RewrapFirstLine(ctx, line)
	if err != nil || dryRun {
		return err == nil, err
	}
	err = writeWhole(path, before.Mode().Perm(), true, func(out *os.File) error {
		if err := keepOwner(out, before); err != nil {
			return err
		}
		if _, err := out.WriteString(next); err != nil {
			return err
		}
		if _, err := io.Copy(out, contextReader{ctx, r}); err != nil {
			return err
		}
		return unchanged(path, before)
	})
	return err == nil, err
}

// startsEncrypted reports whether a file begins as an encrypted one does, be it damaged behind
// that.
func startsEncrypted(r *bufio.Reader) bool {
	start, _ := r.Peek(len("dek:v2147483647:s1.")) // a shorter file has less, and an error
	head, isFile := bytes.CutPrefix(start, []byte("dek:v"))
	version, mark, parted := bytes.Cut(head, []byte(":"))
	return isFile && parted && len(bytes.Trim(version, "0123456789")) == 0 && bytes.HasPrefix(mark, []byte("s1."))
}

// errOwner is a file of another owner: the system lets only root write one.
var errOwner = errors.New("the file would get another owner: run dek as its owner, or as root")

// keepOwner gives a file the owner and the group that the one before has, so that the same
// people can read it.
func keepOwner(f *os.File, before os.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	uid, gid, known := ownerOf(now)
	wasUID, wasGID, knownBefore := ownerOf(before)
	if !known || !knownBefore || uid == wasUID && gid == wasGID {
		return nil
	}
	err = chown(f, wasUID, wasGID)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", errOwner, err)
	}
	return err
}

// Tests replace what only root could have otherwise.
var (
	ownerOf = func(info os.FileInfo) (uid, gid int, known bool) {
		owner, known := info.Sys().(*syscall.Stat_t)
		if !known {
			return 0, 0, false
		}
		return int(owner.Uid), int(owner.Gid), true
	}
	chown = (*os.File).Chown
)

// unchanged fails if path is not the file any more that it was, or was written.
func unchanged(path string, before os.FileInfo) error {
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(before, now) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
		return errChanged
	}
	return nil
}
