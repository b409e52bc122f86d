// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence_test

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
)

var origin = evidence.Origin(evidencetest.MountUUID, 1)

func newKey(t testing.TB, name string) (signer note.Signer, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	signer, err = note.NewSigner(skey)
	require.NoError(t, err)
	return signer, vkey
}

func TestCheckpointIsOfItsKey(t *testing.T) {
	signer, vkey := newKey(t, origin)
	_, other := newKey(t, origin)
	_, foreign := newKey(t, "example.com/log")
	tree := tlog.Tree{N: 5, Hash: tlog.RecordHash([]byte("x"))}
	signed, err := evidence.SignCheckpoint(origin, tree, signer)
	require.NoError(t, err)

	c, err := evidence.OpenCheckpoint(signed, other, vkey, vkey)
	require.NoError(t, err)
	require.Equal(t, tree, c.Tree)
	require.Equal(t, origin, c.Origin)
	require.Equal(t, []string{vkey}, c.Keys)

	for name, keys := range map[string][]string{"none": nil, "another": {other}, "foreign": {foreign}} {
		_, err := evidence.OpenCheckpoint(signed, keys...)
		require.ErrorIs(t, err, evidence.ErrSignature, name)
	}
	_, err = evidence.OpenCheckpoint(signed, "x")
	require.ErrorIs(t, err, evidence.ErrKey)
	_, err = evidence.OpenCheckpoint(bytes.Replace(signed, []byte("\n5\n"), []byte("\n6\n"), 1), vkey)
	require.ErrorIs(t, err, evidence.ErrSignature)
	for _, text := range []string{"", "x", string(signed[:40]), strings.ReplaceAll(string(signed), "dek", "kek")} {
		_, err := evidence.OpenCheckpoint([]byte(text), vkey)
		require.ErrorIs(t, err, evidence.ErrCheckpoint, text)
	}
}

// A shell takes away the last line feed: only that is put back.
func TestKeptCheckpoint(t *testing.T) {
	signer, vkey := newKey(t, origin)
	signed, err := evidence.SignCheckpoint(origin, tlog.Tree{N: 5, Hash: tlog.RecordHash([]byte("x"))}, signer)
	require.NoError(t, err)
	note := string(signed)
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"as it is":                 {note, nil},
		"without its last LF":      {strings.TrimSuffix(note, "\n"), nil},
		"with another LF":          {note + "\n", evidence.ErrNote},
		"with CR":                  {strings.TrimSuffix(note, "\n") + "\r", evidence.ErrNote},
		"with a blank":             {strings.TrimSuffix(note, "\n") + " ", evidence.ErrNote},
		"without its signature":    {note[:strings.Index(note, "—")], evidence.ErrNote},
		"without LF in the middle": {strings.Replace(note, "\n\n", "\n", 1), evidence.ErrNote},
		"one character is cut off": {note[:len(note)-2], evidence.ErrNote},
		"four characters are cut off, as base64 may be": {note[:len(note)-5], evidence.ErrSignature},
		"nothing": {"", evidence.ErrNote},
		"text":    {"x", evidence.ErrNote},
	} {
		t.Run(name, func(t *testing.T) {
			kept := []byte(c.text + "tail")[:len(c.text)]
			c2, err := evidence.OpenCheckpoint(evidence.KeptCheckpoint(kept), vkey)
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.EqualValues(t, signed, c2.Note)
			}
			require.Equal(t, "tail", string(kept[:len(c.text)+4][len(c.text):]), "the caller's bytes")
		})
	}
	_, err = evidence.OpenCheckpoint(bytes.TrimSuffix(signed, []byte("\n")), vkey)
	require.ErrorIs(t, err, evidence.ErrNote, "whatever was not kept by people has it")
}

// A note of another log, signed by that log's key, is none of this log.
func TestCheckpointOfAnotherLog(t *testing.T) {
	second := evidence.Origin(evidencetest.MountUUID, 2)
	signer, vkey := newKey(t, second)
	signed, err := evidence.SignCheckpoint(origin, tlog.Tree{N: 1}, signer)
	require.NoError(t, err)
	_, err = evidence.OpenCheckpoint(signed, vkey)
	require.ErrorIs(t, err, evidence.ErrSignature)
}

func TestCosignature(t *testing.T) {
	signer, vkey := newKey(t, origin)
	signed, err := evidence.SignCheckpoint(origin, tlog.Tree{N: 1}, signer)
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	witness, err := torchwood.NewCosignatureSigner("witness.example", key)
	require.NoError(t, err)
	require.ErrorIs(t, evidence.CheckCosignature(signed, witness.Verifier().String()), evidence.ErrCosignature)

	n, err := note.Open(signed, note.VerifierList(mustVerifier(t, vkey)))
	require.NoError(t, err)
	cosigned, err := note.Sign(n, witness)
	require.NoError(t, err)
	require.NoError(t, evidence.CheckCosignature(cosigned, witness.Verifier().String()))
	_, err = evidence.OpenCheckpoint(cosigned, vkey)
	require.NoError(t, err)
	require.ErrorIs(t, evidence.CheckCosignature(cosigned, "x"), evidence.ErrKey)
}

func TestCosignatureVerifier(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	witness, err := torchwood.NewCosignatureSigner("w2", key)
	require.NoError(t, err)
	vkey := witness.Verifier().String()
	_, ofNotes := newKey(t, "w2")
	parts := strings.SplitN(vkey, "+", 3)
	hash, public := parts[1], parts[2]
	for name, c := range map[string]struct {
		vkey string
		want error
	}{
		"as it is":               {vkey, nil},
		"capital digits":         {"w2+" + strings.ToUpper(hash) + "+" + public, nil},
		"another hash":           {"w2+deadbeef+" + public, evidence.ErrKeyHash},
		"another name":           {"w3+" + hash + "+" + public, evidence.ErrKeyHash},
		"no digits":              {"w2+deadbeex+" + public, evidence.ErrKey},
		"a sign":                 {"w2+-0000001+" + public, evidence.ErrKey},
		"seven digits":           {"w2+" + hash[1:] + "+" + public, evidence.ErrKey},
		"a key of signed notes":  {ofNotes, nil},
		"that with another hash": {strings.Replace(ofNotes, "w2+", "w2+0", 1)[:11] + ofNotes[11:], evidence.ErrKeyHash},
		"nothing":                {"", evidence.ErrKey},
		"the key is cut off":     {vkey[:len(vkey)-8], evidence.ErrKey},
		"an algorithm of no one": {"w2+" + hash + "+/" + public[1:], evidence.ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := evidence.CosignatureVerifier(c.vkey)
			require.ErrorIs(t, err, c.want)
			require.Equal(t, errors.Is(c.want, evidence.ErrKeyHash), errors.Is(err, evidence.ErrKeyHash))
			require.ErrorIs(t, evidence.CheckCosignature(nil, c.vkey), cmp.Or(c.want, evidence.ErrCosignature))
			if c.want == nil && c.vkey != ofNotes {
				require.Equal(t, witness.KeyHash(), v.KeyHash())
			}
		})
	}
}

func mustVerifier(t testing.TB, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	require.NoError(t, err)
	return v
}

func TestProof(t *testing.T) {
	signer, vkey := newKey(t, origin)
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	leaves := [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d"), []byte("e")}
	for i, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		require.NoError(t, err)
		hashes = append(hashes, more...)
	}
	root, err := tlog.TreeHash(5, reader)
	require.NoError(t, err)
	signed, err := evidence.SignCheckpoint(origin, tlog.Tree{N: 5, Hash: root}, signer)
	require.NoError(t, err)
	path, err := tlog.ProveRecord(5, 2, reader)
	require.NoError(t, err)
	text := evidence.FormatProof(2, path, signed)
	require.True(t, strings.HasPrefix(text, "c2sp.org/tlog-proof@v1\nindex 2\n"))

	index, c, err := evidence.OpenProof(text, leaves[2], vkey)
	require.NoError(t, err)
	require.EqualValues(t, 2, index)
	require.EqualValues(t, 5, c.N)
	_, _, err = evidence.OpenProof(text, leaves[1], vkey)
	require.ErrorIs(t, err, evidence.ErrProof)
	_, _, err = evidence.OpenProof(strings.Replace(text, "index 2", "index 3", 1), leaves[2], vkey)
	require.ErrorIs(t, err, evidence.ErrProof)
	_, _, err = evidence.OpenProof("x", leaves[2], vkey)
	require.ErrorIs(t, err, evidence.ErrProof)
	_, _, err = evidence.OpenProof(text[:len(text)-4], leaves[2], vkey)
	require.Error(t, err)
}

func FuzzOpenProof(f *testing.F) {
	_, vkey := newKey(f, origin)
	f.Add("c2sp.org/tlog-proof@v1\nindex 0\n\n"+origin+"\n1\nAAAA\n\n", []byte("x"))
	f.Fuzz(func(t *testing.T, text string, leaf []byte) {
		if _, _, err := evidence.OpenProof(text, leaf, vkey); err == nil {
			t.Fatal("a proof that nobody signed verifies")
		}
	})
}
