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
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
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

// What cannot be a witness is refused, and the error says which element it is, and why.
func TestWitnessesAreJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		_, err := p.RotateKey(t.Context(), rotationHead())
		require.NoError(t, err)
		key, err := p.Key(t.Context())
		require.NoError(t, err)
		require.Len(t, key.Previous, 1)
		ownCosigning, err := cosignature.VKeyToCosignatureV1(key.VKey)
		require.NoError(t, err)
		a, b := cosigner(t, "a.example").Verifier().String(), cosigner(t, "b.example").Verifier().String()
		parts := strings.SplitN(a, "+", 3)
		wrongHash := parts[0] + "+deadbeef+" + parts[2]
		capitals := parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2]
		renamed := "a.example+" + strings.SplitN(ownCosigning, "+", 2)[1]
		long := strings.Repeat("é", 1000)
		signing := evidencetest.Key("w.example", "secret")
		for name, c := range map[string]struct {
			vkeys []string
			want  error
			text  string
		}{
			"malformed":             {[]string{a, "x"}, evidence.ErrKey, ": element 2 is malformed"},
			"empty":                 {[]string{""}, evidence.ErrKey, ": element 1 is malformed"},
			"wrong key hash":        {[]string{wrongHash, b}, evidence.ErrKeyHash, ": element 1 (a.example) has a wrong key hash"},
			"twice":                 {[]string{a, b, a}, witnesses.ErrTwice, ": element 3 (a.example) stands twice"},
			"twice, in capitals":    {[]string{a, capitals}, witnesses.ErrTwice, ": element 2 (a.example) stands twice"},
			"the log's key":         {[]string{a, key.VKey}, witnesses.ErrOwnKey, "is a key of this log, which cannot be its own witness"},
			"the log's older key":   {[]string{key.Previous[0]}, witnesses.ErrOwnKey, ": element 1 ("},
			"made one of a witness": {[]string{ownCosigning}, witnesses.ErrOwnKey, ": element 1 ("},
			"and renamed":           {[]string{renamed}, witnesses.ErrOwnKey, ": element 1 ("},
			"long":                  {[]string{long}, evidence.ErrKey, ": element 1 is malformed"},
			"a signing key":         {[]string{signing}, evidence.ErrKey, ": element 1 is malformed"},
			"with blanks":           {[]string{strings.ReplaceAll(signing, "+", " ")}, evidence.ErrKey, ": element 1 is malformed"},
			"in small letters":      {[]string{strings.ToLower(signing)}, evidence.ErrKey, ": element 1 is malformed"},
		} {
			err := p.SetWitnesses(t.Context(), c.vkeys)
			require.ErrorIs(t, err, witnesses.ErrWitness, name)
			require.ErrorIs(t, err, c.want, name)
			require.True(t, strings.HasPrefix(err.Error(), "witnesses must have verifier keys"), name)
			require.ErrorContains(t, err, c.text, name)
		}
		kept, err := p.Witnesses(t.Context())
		require.NoError(t, err)
		require.Empty(t, kept)
		require.NoError(t, p.SetWitnesses(t.Context(), []string{capitals, b}))
		require.NoError(t, p.SetWitnesses(t.Context(), []string{}))
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
