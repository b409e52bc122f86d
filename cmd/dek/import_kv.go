// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// importOptions are the arguments and flags of import kv2.
type importOptions struct {
	source     string // MOUNT/PATH
	tenant     string
	kind       client.Kind
	overwrite  bool
	checkpoint string
	batch      int
	parallel   int
	rate       float64
	dryRun     bool
	patience   time.Duration
}

func (a *app) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Move secrets from another place into a tenant",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), usage("say what to import from"))
		},
	}
	cmd.AddCommand(a.importKVCommand())
	return cmd
}

func (a *app) importKVCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "kv2 MOUNT/PATH TENANT KIND",
		Short: "Move secrets of a KV mount, version 2 or 1, into a tenant",
		Long: `Copy the secrets below MOUNT/PATH of a KV mount, version 2 or 1, into a tenant, as
items of KIND: credentials, apiKeys or secrets. An item's name is the secret's path
below MOUNT/PATH; a PATH that is a secret itself becomes an item of its last part.
A slash at the end of PATH stands for what is below it alone.

The current version of each secret is copied, with its custom metadata. Each item is
read back and compared. The source stays as it is.

It may be run again: what is there already is compared and passed over. An item that
is there with another content is refused, unless --overwrite is given. What is refused
is named, and the command ends with 3. With --checkpoint a command that was stopped
goes on where it was. While a Vault restarts it waits, --patience long.

The source is the same Vault, unless SOURCE_VAULT_ADDR names another. Its token is then
SOURCE_VAULT_TOKEN, or in the file that SOURCE_VAULT_TOKEN_FILE names. SOURCE_VAULT_NAMESPACE,
_CACERT, _CAPATH, _TLS_SERVER_NAME, _CLIENT_CERT, _CLIENT_KEY and _SKIP_VERIFY are for the
source what the VAULT_ settings of these names are for the target. Of those the source gets
the authorities of VAULT_CACERT and VAULT_CAPATH, if it has none of its own, and nothing else
that says who you are: no token, no namespace, no certificate, no VAULT_HEADERS.`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.source, o.tenant, o.kind = args[0], args[1], client.Kind(args[2])
			if err := o.check(); err != nil {
				return err
			}
			return a.importKV(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.overwrite, "overwrite", false, "replace items that are there with another content")
	f.StringVar(&o.checkpoint, "checkpoint", "", "a file that keeps how far the command is")
	f.IntVar(&o.batch, "batch", 500, "secrets at a time")
	f.IntVar(&o.parallel, "parallel", 16, "how many secrets are read at once")
	f.Float64Var(&o.rate, "rate", 0, "secrets a second at most (default: no limit)")
	f.BoolVar(&o.dryRun, "dry-run", false, "read and compare all of it, and write nothing")
	f.DurationVar(&o.patience, "patience", patience, "how long to wait for a Vault to come back")
	return cmd
}

func (o *importOptions) check() error {
	parts := strings.Split(strings.Trim(o.source, "/"), "/")
	switch {
	case slices.ContainsFunc(parts, isNoPart):
		return usage("MOUNT/PATH must have no empty part, and none of one or two dots")
	case !slices.Contains([]client.Kind{client.Credentials, client.APIKeys, client.Secrets}, o.kind):
		return usage("KIND must be %s, %s or %s", client.Credentials, client.APIKeys, client.Secrets)
	case o.batch < 1 || o.batch > client.MaxBulkItems:
		return usage("--batch must be 1 to %d", client.MaxBulkItems)
	case o.parallel < 1 || o.parallel > maxParallel:
		return usage("--parallel must be 1 to %d", maxParallel)
	case o.rate < 0:
		return usage("--rate must not be below 0")
	}
	return nil
}

// maxParallel bounds the connections to the source.
const maxParallel = 256

// isNoPart reports whether a part of a path would be cleaned away.
func isNoPart(part string) bool { return part == "" || part == "." || part == ".." }

func (a *app) importKV(ctx context.Context, o *importOptions) error {
	target, err := a.tenant(o.tenant)
	if err != nil {
		return err
	}
	source, err := openKV(ctx, a, o)
	if err != nil {
		return err
	}
	job := fmt.Sprintf("%s to %s/%s/%s", source, a.mount, target.ID(), o.kind)
	keep, err := openCheckpoint[importProgress](o.checkpoint, job)
	if err != nil {
		return err
	}
	j := &importJob{a: a, o: o, source: source, target: target, keep: keep}
	if o.dryRun {
		j.keep = &checkpoint[importProgress]{} // from the beginning, and nothing is kept
	}
	if err := j.run(ctx); err != nil {
		if ctx.Err() != nil {
			err = errInterrupted
		}
		return errors.Join(err, j.keep.flush())
	}
	if err := j.keep.remove(); err != nil {
		return err
	}
	return j.tellEnd()
}
