// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidencecmd is dek evidence: it exports the evidence log of a mount, verifies
// it with or without Vault, reports it to auditors, and cosigns it as a witness.
package evidencecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// What the commands end with, for the program around them.
var (
	// ErrBroken says that something does not hold (exit 1).
	ErrBroken = errors.New("not everything holds")
	// ErrUntrusted says that nothing came from outside to trust in (exit 3).
	ErrUntrusted = errors.New(
		"everything holds, but nothing from outside vouches for the log: give --vkey or --checkpoint")
	// ErrUsage says that the command line cannot be carried out (exit 2).
	ErrUsage = errors.New("faulty usage")
)

// Env is what the commands take from the program around them.
type Env struct {
	// Client returns a client of Vault, as the environment says.
	Client func() (*api.Client, error)
	// Mount returns the path of the secrets engine.
	Mount func() string
	// JSON says whether to write lines of JSON.
	JSON func() bool
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// Pause is how long to wait between two looks at a rotation, half a second if 0.
	Pause time.Duration
}

func (env Env) pause() time.Duration {
	if env.Pause == 0 {
		return 500 * time.Millisecond
	}
	return env.Pause
}

// Command returns dek evidence, with its commands.
func Command(env Env) *cobra.Command {
	if env.Now == nil {
		env.Now = time.Now
	}
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Export, verify, report and witness what the engine did with keys",
		Long: `Export, verify, report and witness the evidence log of a mount.

The log says what the engine did with keys. It is append-only, and somebody without
Vault can verify it: its formats are those of C2SP (tlog-tiles, signed-note).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(env.exportCommand(), env.verifyCommand(), env.reportCommand(), env.witnessCommand())
	return cmd
}

// trust are the flags that say what is known from outside.
type trust struct {
	vkeys, witnesses []string
	kept, previous   string
	inside           bool // kept is a file of the export that it is to vouch for
}

func (f *trust) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.vkeys, "vkey", nil, "verifier key of the log, from elsewhere than the log (repeatable)")
	cmd.Flags().StringVar(&f.kept, "checkpoint", "", "file with a checkpoint that was kept")
	cmd.Flags().StringArrayVar(&f.witnesses, "witness", nil, "verifier key of a witness that must have cosigned (repeatable)")
	cmd.Flags().StringVar(&f.previous, "previous", "", "export of the log before, which a log after the first goes on from")
}

// options reads the files that the flags name. The caller closes what it returns.
func (f *trust) options(now time.Time) (verify.Options, error) {
	options := verify.Options{VKeys: f.vkeys, Witnesses: f.witnesses, Now: now}
	for _, vkey := range f.vkeys {
		if _, err := note.NewVerifier(vkey); err != nil {
			return options, fmt.Errorf("%w: --vkey is not a verifier key, such as evidence/key has", ErrUsage)
		}
	}
	for _, witness := range f.witnesses {
		switch _, err := evidence.CosignatureVerifier(witness); {
		case errors.Is(err, evidence.ErrKeyHash):
			return options, fmt.Errorf("%w: --witness has a wrong key hash: its eight hex digits are not those of its name and key", ErrUsage)
		case err != nil:
			return options, fmt.Errorf("%w: --witness is not a verifier key of a witness", ErrUsage)
		}
	}
	if f.kept != "" {
		text, err := os.ReadFile(f.kept)
		if err != nil {
			return options, fmt.Errorf("%w: %w", ErrUsage, err)
		}
		options.Kept = text
	}
	if f.previous != "" {
		source, err := verify.Dir(f.previous)
		if err != nil {
			return options, fmt.Errorf("%w: %w", ErrUsage, err)
		}
		options.Previous = source
	}
	return options, nil
}

// verify verifies the log of a directory, or that of Vault if there is none.
func (env Env) verify(ctx context.Context, args []string, flags *trust) (verify.Source, *verify.Result, error) {
	source, err := env.source(args)
	if err != nil {
		return nil, nil, err
	}
	options, err := flags.options(env.Now())
	if err != nil {
		return nil, nil, err
	}
	result, err := verify.Log(ctx, source, options)
	if err != nil {
		return nil, nil, err
	}
	flags.inside = len(args) == 1 && flags.kept != "" && isInside(flags.kept, args[0])
	if flags.inside && len(flags.vkeys) == 0 {
		result.Trusted = false
	}
	return source, result, nil
}

// verdict returns what a command ends with that verified a log.
func (f *trust) verdict(result *verify.Result, broken string) error {
	switch {
	case !result.OK():
		return fmt.Errorf("%w: %s%s", ErrBroken, broken, findings(len(result.Broken)))
	case !result.Trusted:
		return f.untrusted()
	}
	return nil
}

// untrusted says that nothing from outside vouches for the log.
func (f *trust) untrusted() error {
	if f.inside {
		return fmt.Errorf("%w (%s is of the export itself)", ErrUntrusted, f.kept)
	}
	return ErrUntrusted
}

// source returns the log of a directory, or that of Vault if there is none.
func (env Env) source(args []string) (verify.Source, error) {
	if len(args) == 1 {
		source, err := verify.Dir(args[0])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUsage, err)
		}
		return source, nil
	}
	return env.vault()
}

func (env Env) vault() (*vaultSource, error) {
	client, err := env.Client()
	if err != nil {
		return nil, err
	}
	return &vaultSource{client: client, mount: env.Mount()}, nil
}

// print writes a value as a line of JSON, or text.
func (env Env) print(w io.Writer, value any, format string, args ...any) error {
	if env.JSON() {
		return json.NewEncoder(w).Encode(value)
	}
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
}
