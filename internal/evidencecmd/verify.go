// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

func (env Env) verifyCommand() *cobra.Command {
	var flags trust
	var repair, yes bool
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Verify the whole log, from Vault or from an export",
		Long: `Verify the whole log, and say in sentences what holds and what does not.

With DIR it reads what dek evidence export wrote, and needs no Vault. One of --vkey and
--checkpoint must come from outside, from where whoever could change the log could not
change it: a file in DIR does not. It ends with 1 if something does not hold, with 3 if
all holds and nothing came from outside.

With --repair DIR is an export from before a snapshot of Vault's storage was restored. The
keys that the export says were destroyed, and that came back, are taken away again: it
shows its plan and asks; then it rotates tenants off those keys and destroys them, never by
force, deletes tenants that had been shredded, moves tenants off key-encryption keys of
their own that came back, which destroys these, and makes tenants due whose counts of
messages may be too low. It can be run again, and ends with 3 if something was refused. The
token needs the policies auditor, super_admin and key_destroyer, and kek_admin where a
key-encryption key came back, the mount's or a tenant's own.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if repair && len(args) == 0 || yes && !repair {
				return fmt.Errorf("%w: --repair needs DIR, the export of the log from before, and --yes needs --repair", ErrUsage)
			}
			source, result, err := env.verify(cmd.Context(), args, &flags)
			if err != nil {
				return err
			}
			if err := env.tell(cmd.OutOrStdout(), result); err != nil {
				return err
			}
			if repair && !result.Trusted {
				return flags.untrusted()
			}
			if repair {
				return env.repair(cmd, source, result, yes)
			}
			return flags.verdict(result, "")
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&repair, "repair", false, "take away again what a restored snapshot brought back")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --repair: do not ask")
	return cmd
}

// tell writes the findings.
func (env Env) tell(w io.Writer, result *verify.Result) error {
	if env.JSON() {
		return env.print(w, result, "")
	}
	var text strings.Builder
	for _, f := range result.Holds {
		fmt.Fprintf(&text, "  holds: %s\n", f.Text)
	}
	for _, f := range result.Broken {
		fmt.Fprintf(&text, "  BROKEN: %s\n", f.Text)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// findings says how many there are.
func findings(n int) string {
	if n == 1 {
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}
