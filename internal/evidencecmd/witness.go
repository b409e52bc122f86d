// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// ErrInconsistent says that a witness does not cosign.
var ErrInconsistent = errors.New("the log does not go on from the checkpoint that this witness saw last; it is not cosigned")

// ErrUnregistered says that the log does not know the witness.
var ErrUnregistered = errors.New("this witness is not among evidence/witnesses yet")

// witnessFlags are those of dek evidence witness.
type witnessFlags struct {
	key, state, name string
	vkeys            []string
}

func (env Env) witnessCommand() *cobra.Command {
	var flags witnessFlags
	cmd := &cobra.Command{
		Use:   "witness --key FILE",
		Short: "Cosign the log, if it goes on from what this witness saw before",
		Long: `Cosign the present checkpoint, if the log goes on from the one that this witness
cosigned last, and keep it. Run it by a timer, where whoever runs Vault cannot change
its files.

With --name it makes a key first, unless FILE has one, and prints the verifier key at
once. That must be added to evidence/witnesses: until then the server keeps no
cosignature, and the command ends with 1. Run it again with the same FILE afterwards.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return env.witness(cmd, &flags) },
	}
	cmd.Flags().StringVar(&flags.key, "key", "", "file with the witness's signing key")
	cmd.Flags().StringVar(&flags.state, "state", "", "file with the checkpoint that it saw last (default: the key's, with .checkpoint)")
	cmd.Flags().StringVar(&flags.name, "name", "", "make a key of this name if there is none yet")
	cmd.Flags().StringArrayVar(&flags.vkeys, "vkey", nil, "verifier key of the log (default: what the log names, at first)")
	return cmd
}

func (env Env) witness(cmd *cobra.Command, flags *witnessFlags) error {
	if flags.key == "" {
		return fmt.Errorf("%w: --key is needed", ErrUsage)
	}
	signer, vkey, err := env.witnessKey(cmd.OutOrStdout(), flags.key, flags.name)
	if err != nil {
		return err
	}
	if flags.state == "" {
		flags.state = flags.key + ".checkpoint"
	}
	source, err := env.vault()
	if err != nil {
		return err
	}
	checkpoint, err := see(cmd.Context(), source, flags)
	if err != nil {
		return err
	}
	lines, err := cosign(checkpoint, signer)
	if err != nil {
		return err
	}
	// What is signed is kept first: a witness never signs two histories.
	if err := writeFile(filepath.Dir(flags.state), filepath.Base(flags.state), checkpoint.Note); err != nil {
		return err
	}
	if err := source.cosign(cmd.Context(), lines); err != nil {
		return refusal(cmd.Context(), source, signer, vkey, err)
	}
	return env.print(cmd.OutOrStdout(), map[string]any{"vkey": vkey, "origin": checkpoint.Origin, "size": checkpoint.N},
		"cosigned %d entries of %s as %s", checkpoint.N, checkpoint.Origin, vkey)
}

// refusal says why the server did not keep a cosignature.
func refusal(ctx context.Context, source *vaultSource, signer note.Signer, vkey string, err error) error {
	if status(err) != http.StatusBadRequest {
		return err
	}
	registered, unread := source.witnesses(ctx)
	known := slices.ContainsFunc(registered, func(other string) bool {
		v, err := evidence.CosignatureVerifier(other)
		return err == nil && v.Name() == signer.Name() && v.KeyHash() == signer.KeyHash()
	})
	if unread != nil || known {
		return fmt.Errorf("the server refuses the cosignature: %s", word(err))
	}
	if vkey == "" {
		vkey = "its verifier key" // the file has the signing key alone
	}
	return fmt.Errorf("%w: add %s", ErrUnregistered, vkey)
}

// witnessKey reads a key, or makes one and tells its verifier key. Its file has the signing
// key, and below it the verifier key of its cosignatures.
func (env Env) witnessKey(out io.Writer, path, name string) (signer note.Signer, vkey string, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // the caller names it
	made := errors.Is(err, fs.ErrNotExist) && name != ""
	if made {
		text, err = newWitnessKey(path, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: --key: %w; --name makes one", ErrUsage, err)
	}
	if err != nil {
		return nil, "", err
	}
	lines := append(strings.Fields(string(text)), "", "")
	if signer, err = cosignature.NewSignerForCosignatureV1(lines[0]); err != nil {
		return nil, "", fmt.Errorf("%w: %s has no signing key", ErrUsage, path)
	}
	if vkey = lines[1]; made {
		// Nothing that fails from here on may hide it: it has to be registered first.
		err = env.print(out, map[string]any{"key": path, "vkey": vkey},
			"made %s; add its verifier key to evidence/witnesses: %s", path, vkey)
	}
	return signer, vkey, err
}

func newWitnessKey(path, name string) ([]byte, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err == nil {
		vkey, err = cosignature.VKeyToCosignatureV1(vkey)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --name is not the name of a key", ErrUsage)
	}
	text := []byte(skey + "\n" + vkey + "\n")
	return text, writeFile(filepath.Dir(path), filepath.Base(path), text)
}

// see reads the present checkpoint, and holds it against the one that was seen last.
func see(ctx context.Context, source verify.Source, flags *witnessFlags) (*evidence.Checkpoint, error) {
	text, err := source.Read(ctx, verify.FileCheckpoint)
	if err != nil {
		return nil, err
	}
	vkeys := flags.vkeys
	if len(vkeys) == 0 {
		keys, err := source.Read(ctx, verify.FileKeys)
		if err != nil {
			return nil, err
		}
		vkeys = keysOf(keys)
	}
	checkpoint, err := evidence.OpenCheckpoint(text, vkeys...)
	if err != nil {
		return nil, err
	}
	last, err := os.ReadFile(flags.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkpoint, nil
	case err != nil:
		return nil, err
	}
	before, err := evidence.ParseCheckpoint(last)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flags.state, err)
	}
	return checkpoint, consistent(ctx, source, before, checkpoint)
}

// consistent reports ErrInconsistent unless the newer checkpoint goes on from the older.
func consistent(ctx context.Context, source verify.Source, before, now *evidence.Checkpoint) error {
	switch {
	case before.Origin != now.Origin, before.N > now.N:
		return ErrInconsistent
	case before.N == 0 || before.Tree == now.Tree:
		return nil
	}
	proof, err := verify.Consistency(ctx, source, now.Tree, before.N)
	if err != nil {
		return err
	}
	if tlog.CheckTree(proof, now.N, now.Hash, before.N, before.Hash) != nil {
		return ErrInconsistent
	}
	return nil
}

// cosign returns the signature line of the witness.
func cosign(checkpoint *evidence.Checkpoint, signer note.Signer) (string, error) {
	text, _, _ := strings.Cut(string(checkpoint.Note), "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, signer)
	if err != nil {
		return "", fmt.Errorf("cosigning: %w", err)
	}
	_, line, _ := strings.Cut(string(signed), "\n\n")
	return line, nil
}

// keysOf reads the file of a log's own keys.
func keysOf(file []byte) []string { return strings.Fields(string(file)) }
