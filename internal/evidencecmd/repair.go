// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// Errors of a repair.
var (
	// ErrRefused says that the repair did what it could, and that something is left (exit 3).
	ErrRefused = errors.New("something was refused: run the repair again once that is settled")
	// ErrDeclined says that the plan was not confirmed: nothing was done.
	ErrDeclined = errors.New("nothing was done: the plan was not confirmed")
)

// repair takes the keys and tenants away again that a restored snapshot brought back.
type repair struct {
	env   Env
	vault *vaultSource
	in    io.Reader
	out   io.Writer
	id    string // of the kept log: what is started twice is the same rotation

	refused bool
}

// about are the findings about what a log says. They do not mean that it was altered.
var about = []string{
	history.CodeLate, history.CodeNotDestroyed, history.CodeEarly, history.CodePagesLeft, history.CodeActive,
}

// repair compares the mount with a kept log that verified and is trusted, and repairs it.
func (env Env) repair(cmd *cobra.Command, source verify.Source, kept *verify.Result, yes bool) error {
	ctx := cmd.Context()
	if altered(kept) {
		return fmt.Errorf("%w: the kept log is not one to repair by", ErrBroken)
	}
	vault, err := env.vault()
	if err != nil {
		return err
	}
	r := &repair{
		env: env, vault: vault, in: cmd.InOrStdin(), out: cmd.OutOrStdout(),
		id: fmt.Sprintf("repair/%d/%s", kept.Size, kept.Root),
	}
	keks, err := r.signedHere(ctx, source)
	if err != nil {
		return err
	}
	back, err := r.wentBack(ctx, kept.Checkpoint)
	if err != nil || !back {
		return err
	}
	p, err := r.plan(ctx, kept.History, keks)
	if err != nil {
		return err
	}
	if err := p.tell(r); err != nil || p.empty() {
		return err
	}
	if !yes {
		if err := r.confirmed(cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	if err := r.carryOut(ctx, p); err != nil {
		return err
	}
	if r.refused {
		return ErrRefused
	}
	return nil
}

func altered(result *verify.Result) bool {
	return slices.ContainsFunc(result.Broken, func(f verify.Finding) bool { return !slices.Contains(about, f.Code) })
}

// signedHere makes sure that a key of the mount signed the kept log, or one that such a
// key introduced. It returns the key-encryption keys that the log says were destroyed.
func (r *repair) signedHere(ctx context.Context, source verify.Source) (keks map[string]bool, err error) {
	keys, err := r.vault.keys(ctx)
	if err != nil {
		return nil, err
	}
	keks = map[string]bool{}
	result, err := verify.Log(ctx, source, verify.Options{
		VKeys: strings.Fields(string(keys)), Now: r.env.Now(),
		Each: func(_ int64, e *evidence.Event) {
			if d, is := e.Detail.(*evidence.KeyDestroyed); is && e.TenantID == "" && d.Which == evidence.WhichKEK {
				keks[d.KeyID] = true
			}
		},
	})
	if err != nil {
		return nil, err
	}
	if altered(result) {
		return nil, fmt.Errorf("%w: the kept log is not of this mount: no key of the mount signed it", ErrBroken)
	}
	return keks, nil
}

// wentBack asks the engine whether its log lacks what the kept one has.
func (r *repair) wentBack(ctx context.Context, checkpoint []byte) (bool, error) {
	_, err := r.vault.client.Logical().WriteWithContext(ctx, r.vault.path("check"), map[string]any{"checkpoint": string(checkpoint)})
	if status(err) == http.StatusConflict {
		return true, r.say("went_back", "", "Storage went back: the log of the mount is not the kept one any more.")
	}
	if err == nil {
		err = r.say("consistent", "", "The log of the mount goes on from the kept one: storage did not go back, and nothing is to repair.")
	}
	return false, err
}

// confirmed asks the operator.
func (r *repair) confirmed(prompt io.Writer) error {
	_, _ = fmt.Fprint(prompt, `Carry this out? Only "yes" does: `)
	line, err := bufio.NewReader(r.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return ErrDeclined
	}
	return nil
}

// say writes a line of the plan, or of what was done.
func (r *repair) say(step, tenantID, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return r.env.print(r.out, map[string]string{"step": step, "tenant_id": tenantID, "text": text}, "%s", text)
}

// refuse writes what could not be done.
func (r *repair) refuse(tenantID, what string, err error) error {
	r.refused = true
	return r.say("refused", tenantID, "Refused: %s of tenant %s: %s", what, tenantID, word(err))
}

// word is what the engine said.
func word(err error) string {
	var refused *api.ResponseError
	if errors.As(err, &refused) && len(refused.Errors) > 0 {
		return strings.Join(refused.Errors, "; ")
	}
	return err.Error()
}

// status is the status of a refusal by Vault, 0 for any other error.
func status(err error) int {
	var refused *api.ResponseError
	if errors.As(err, &refused) {
		return refused.StatusCode
	}
	return 0
}
