// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// suffix is what encrypt puts behind a file's name, and decrypt takes away.
const suffix = ".dek"

// fileOptions are the flags of encrypt and decrypt.
type fileOptions struct {
	tenant         string
	output         string
	associatedData string
	force          bool
}

func (o *fileOptions) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.tenant, "tenant", "", "the tenant's ID")
	cmd.Flags().StringVar(&o.output, "output", "", "where to write; - is standard output")
	cmd.Flags().StringVar(&o.associatedData, "associated-data", "", "what belongs to the file: to decrypt it, the same is needed")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace a file that is there")
}

func (a *app) encryptCommand() *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use:   "encrypt --tenant TENANT FILE",
		Short: "Encrypt a file under a tenant's key",
		Long: `Encrypt a file of any size under a tenant's key, into FILE.dek unless --output
says otherwise. FILE - is standard input. The output appears under its name only
when it is whole.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.output == "" && args[0] == "-" {
				return usage("--output is needed for standard input")
			}
			if o.output == "" {
				o.output = args[0] + suffix
			}
			return a.transform(cmd.Context(), args[0], &o, encrypt)
		},
	}
	o.register(cmd)
	return cmd
}

func (a *app) decryptCommand() *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use:   "decrypt --tenant TENANT FILE",
		Short: "Decrypt a file that encrypt made",
		Long: `Decrypt a file, into its name without .dek unless --output says otherwise. FILE -
is standard input. A file that was changed or cut off fails, and leaves no
output; only standard output has had what came before the fault.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.output == "" {
				name, has := strings.CutSuffix(args[0], suffix)
				if !has || name == "" {
					return usage("--output is needed for a file whose name does not end in %s", suffix)
				}
				o.output = name
			}
			return a.transform(cmd.Context(), args[0], &o, decrypt)
		},
	}
	o.register(cmd)
	return cmd
}

// direction writes to out what it makes of in.
type direction func(ctx context.Context, t *client.Tenant, out io.Writer, in io.Reader, ad []byte) error

func encrypt(ctx context.Context, t *client.Tenant, out io.Writer, in io.Reader, ad []byte) error {
	w, err := t.EncryptStream(ctx, out, ad)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return w.Close()
}

func decrypt(ctx context.Context, t *client.Tenant, out io.Writer, in io.Reader, ad []byte) error {
	r, err := t.DecryptStream(ctx, in, ad)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return err
}

// transform reads a file, or standard input, and writes another.
func (a *app) transform(ctx context.Context, name string, o *fileOptions, do direction) error {
	if o.tenant == "" {
		return usage("--tenant is needed")
	}
	t, err := a.tenant(o.tenant)
	if err != nil {
		return err
	}
	in, info, err := a.input(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	size, mode := int64(-1), os.FileMode(0o600)
	if info != nil {
		size, mode = info.Size(), info.Mode().Perm()
	}
	m := a.meter(size, filepath.Base(name))
	defer m.finish()
	source := &counted{Reader: contextReader{ctx, in}, m: m}
	ad := []byte(o.associatedData)
	if o.output == "-" {
		a.toStderr = true
		return do(ctx, t, a.stdout, source, ad)
	}
	if err := writeWhole(o.output, mode, o.force, func(f *os.File) error {
		err := do(ctx, t, f, source, ad)
		if errors.Is(err, client.ErrRotated) {
			return rewrapWritten(ctx, t, f)
		}
		return err
	}); err != nil {
		return err
	}
	m.finish()
	return a.tell(map[string]any{"file": name, "output": o.output, "bytes": source.n}, "%s", o.output)
}

// input opens a file, or standard input, which has no info.
func (a *app) input(ctx context.Context, name string) (io.ReadCloser, os.FileInfo, error) {
	if name == "-" {
		return io.NopCloser(untilDone(ctx, a.stdin)), nil, nil
	}
	f, err := os.Open(name) // #nosec G304 -- what the user names
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = usage("%s is a directory", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return struct { // a pipe has no size
			io.Reader
			io.Closer
		}{untilDone(ctx, f), f}, nil, nil
	}
	return f, info, nil
}

// untilDone reads what may never come, a pipe or a terminal, until the context ends.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, 1<<20))
		_ = in.CloseWithError(err) // never fails
	}()
	context.AfterFunc(ctx, func() { _ = out.CloseWithError(ctx.Err()) })
	return out
}

// contextReader ends with its context. What Read returned by then does not count: an
// interrupt ends the command that feeds a pipe too, so that the end of the input may not
// be that of the data.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of the one command that reads
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if ended := c.ctx.Err(); ended != nil {
		return 0, ended
	}
	return n, err
}

// counted shows how much was read.
type counted struct {
	io.Reader
	m *meter
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if shown := c.m.show(c.n, map[string]any{"event": "progress", "read": c.n}); shown != nil && err == nil {
		err = shown
	}
	return n, err
}
