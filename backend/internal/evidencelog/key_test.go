// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/torchwood"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

func TestNewKeyIsIntroducedByTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		old, err := p.Key(t.Context())
		require.NoError(t, err)
		vkey, err := p.RotateKey(t.Context(), rotationHead())
		require.NoError(t, err)
		require.NotEqual(t, old.VKey, vkey)

		both, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		c, err := evidence.OpenCheckpoint(both, old.VKey, vkey)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{old.VKey, vkey}, c.Keys)
		leaf, err := p.Entry(t.Context(), c.N-1)
		require.NoError(t, err)
		e, err := evidence.Decode(leaf)
		require.NoError(t, err)
		require.Equal(t, &evidence.LogKeyRotated{Old: old.VKey, New: vkey}, e.Detail)
		require.Equal(t, "person-9", e.Actor)

		for range 2 { // also after a restart
			_, err = p.Append(t.Context(), pending(event(1, 2), false), pending(event(1, 3), false))
			require.NoError(t, err)
			text, err := p.Checkpoint(t.Context(), 0)
			require.NoError(t, err)
			c, err = evidence.OpenCheckpoint(text, old.VKey, vkey)
			require.NoError(t, err)
			require.Equal(t, []string{vkey}, c.Keys)
			key, err := p.Key(t.Context())
			require.NoError(t, err)
			require.Equal(t, vkey, key.VKey)
			require.Equal(t, []string{old.VKey}, key.Previous)
			p.end()
			p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		}
		require.Len(t, check(t, p), 5)
	})
}

// cosigner is a witness with a key of its own.
func cosigner(t *testing.T, name string) *torchwood.CosignatureSigner {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	signer, err := torchwood.NewCosignatureSigner(name, ed25519.NewKeyFromSeed(seed[:]))
	require.NoError(t, err)
	return signer
}

// cosign returns the signature line of a witness.
func cosign(t *testing.T, checkpoint []byte, w *torchwood.CosignatureSigner) string {
	t.Helper()
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, w)
	require.NoError(t, err)
	_, lines, _ := strings.Cut(string(signed), "\n\n")
	return lines
}

func TestCosignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		first, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		a, b, stranger := cosigner(t, "a.example"), cosigner(t, "b.example"), cosigner(t, "c.example")
		require.ErrorIs(t, p.SetWitnesses(t.Context(), []string{"x"}), evidence.ErrKey)
		require.ErrorIs(t, p.SetWitnesses(t.Context(), make([]string, 17)), witnesses.ErrTooManyWitnesses)
		require.ErrorIs(t, p.Cosign(t.Context(), 0, cosign(t, first, a)), witnesses.ErrCosignature)
		require.NoError(t, p.SetWitnesses(t.Context(), []string{a.Verifier().String(), b.Verifier().String()}))
		vkeys, err := p.Witnesses(t.Context())
		require.NoError(t, err)
		require.Len(t, vkeys, 2)

		require.NoError(t, p.Cosign(t.Context(), 0, cosign(t, first, a)))
		none, err := p.Cosigned(t.Context())
		require.NoError(t, err)
		require.Nil(t, none, "one witness of two")
		_, err = p.Append(t.Context(), pending(event(1, 2), true))
		require.NoError(t, err)
		require.NoError(t, p.Cosign(t.Context(), 2, cosign(t, first, b)))
		cosigned, err := p.Cosigned(t.Context())
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(cosigned), string(first)))
		for _, w := range []*torchwood.CosignatureSigner{a, b} {
			require.NoError(t, evidence.CheckCosignature(cosigned, w.Verifier().String()))
		}

		second, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		for name, lines := range map[string]string{
			"a stranger's":      cosign(t, second, stranger),
			"nothing":           "",
			"text":              "x\n",
			"of another size":   cosign(t, []byte(strings.Replace(string(second), "\n3\n", "\n9\n", 1)), a),
			"with a stranger's": cosign(t, second, a) + cosign(t, second, stranger),
		} {
			require.ErrorIs(t, p.Cosign(t.Context(), 0, lines), witnesses.ErrCosignature, name)
		}
		require.ErrorIs(t, p.Cosign(t.Context(), 99, cosign(t, second, a)), witnesses.ErrCosignature)
		require.NoError(t, p.Cosign(t.Context(), 0, cosign(t, second, a)))
		require.NoError(t, p.Cosign(t.Context(), 0, cosign(t, second, a)), "again")
		require.NoError(t, p.Cosign(t.Context(), 0, cosign(t, second, b)))
		cosigned, err = p.Cosigned(t.Context())
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(cosigned), string(second)))
	})
}

// A key that was made before a crash is introduced after it.
func TestNewKeyOutlastsACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		s := storagetest.Open(disk, 0, storagetest.None)
		p := start(t, s, nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		old, err := p.Key(t.Context())
		require.NoError(t, err)
		s.Done(func(op, key string) {
			if op == "put" && strings.Contains(key, "evidence/keys/") {
				s.Kill()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = p.RotateKey(ctx, rotationHead())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		p.end()

		p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err = p.Append(t.Context(), pending(event(1, 2), false))
		require.NoError(t, err)
		key, err := p.Key(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, old.VKey, key.VKey)
		require.Equal(t, []string{old.VKey}, key.Previous)
		events := check(t, p)
		require.Len(t, events, 4)
		require.Equal(t, &evidence.LogKeyRotated{Old: old.VKey, New: key.VKey}, events[2].Detail)
		require.Equal(t, "person-9", events[2].Actor)
	})
}
