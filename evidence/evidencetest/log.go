// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A Log is a log in memory, as whoever holds its key makes one.
type Log struct {
	Origin string
	Leaves [][]byte
	keys   []string // the present one last
	hashes []tlog.Hash
	// introduced are sizes at which a new key was.
	introduced map[int64]bool
	chains     map[string]position
}

type position struct{ seq, index int64 }

// NewLog returns an empty log of the test's mount.
func NewLog(n int64) *Log {
	origin := evidence.Origin(MountUUID, n)
	return &Log{
		Origin: origin, keys: []string{Key(origin, "first")}, introduced: map[int64]bool{}, chains: map[string]position{},
	}
}

// Key returns an encoded signing key that is the same each time.
func Key(name, seed string) string {
	sum := sha256.Sum256([]byte(seed))
	public := ed25519.NewKeyFromSeed(sum[:]).Public().(ed25519.PublicKey)
	hash := sha256.Sum256([]byte(name + "\n\x01" + string(public)))
	return fmt.Sprintf("PRIVATE+KEY+%s+%x+%s", name, hash[:4], base64.StdEncoding.EncodeToString(append([]byte{1}, sum[:]...)))
}

// VKey returns the verifier key of an encoded signing key.
func VKey(skey string) string {
	parts := strings.SplitN(skey, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil {
		panic(err)
	}
	public := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(parts[2], public)
	if err != nil {
		panic(err)
	}
	return vkey
}

// VKey returns the verifier key that the log began with.
func (l *Log) VKey() string { return VKey(l.keys[0]) }

// ReadHashes makes the log a [tlog.HashReader].
func (l *Log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		found = append(found, l.hashes[i])
	}
	return found, nil
}

// Add logs an event as the next of its sequence.
func (l *Log) Add(t testing.TB, e evidence.Event) int64 {
	t.Helper()
	at := l.chains[e.Incarnation]
	e.Previous = nil
	if at.seq > 0 {
		e.Previous = &at.index
	}
	if e.Seq == 0 {
		e.Seq = at.seq + 1
	}
	if e.EventID == "" {
		e.EventID = evidence.EventID(e.Incarnation, fmt.Sprint(e.Seq))
	}
	if e.Actor == "" {
		e.Actor = evidence.System
	}
	leaf, err := evidence.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	index := l.AddLeaf(t, leaf)
	l.chains[e.Incarnation] = position{e.Seq, index}
	return index
}

// AddLeaf logs any bytes.
func (l *Log) AddLeaf(t testing.TB, leaf []byte) int64 {
	t.Helper()
	index := int64(len(l.Leaves))
	hashes, err := tlog.StoredHashes(index, leaf, l)
	if err != nil {
		t.Fatal(err)
	}
	l.Leaves, l.hashes = append(l.Leaves, leaf), append(l.hashes, hashes...)
	return index
}

// RotateKey logs a new signing key.
func (l *Log) RotateKey(t testing.TB, e evidence.Event, seed string) {
	t.Helper()
	next := Key(l.Origin, seed)
	e.Detail = &evidence.LogKeyRotated{Old: VKey(l.keys[len(l.keys)-1]), New: VKey(next)}
	l.Add(t, e)
	l.keys = append(l.keys, next)
	l.introduced[int64(len(l.Leaves))] = true
}

// Tree returns the tree of the first entries.
func (l *Log) Tree(t testing.TB, size int64) tlog.Tree {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: root}
}

// Checkpoint signs the first entries, with the key of that time.
func (l *Log) Checkpoint(t testing.TB, size int64) []byte {
	t.Helper()
	key := 0
	for at := range l.introduced {
		if at <= size {
			key++
		}
	}
	skeys := l.keys[key : key+1]
	if l.introduced[size] {
		skeys = l.keys[key-1 : key+1]
	}
	var signers []note.Signer
	for _, skey := range skeys {
		signer, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, signer)
	}
	text, err := evidence.SignCheckpoint(l.Origin, l.Tree(t, size), signers...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Files returns the log as an export has it.
func (l *Log) Files(t testing.TB) fstest.MapFS {
	t.Helper()
	size := int64(len(l.Leaves))
	vkeys := ""
	for i := len(l.keys) - 1; i >= 0; i-- {
		vkeys += VKey(l.keys[i]) + "\n"
	}
	files := fstest.MapFS{}
	put := func(name string, data []byte) { files[name] = &fstest.MapFile{Data: data, Mode: 0o600} }
	put("checkpoint", l.Checkpoint(t, size))
	put("keys", []byte(vkeys))
	for at := range l.introduced {
		put(fmt.Sprintf("checkpoints/%d", at), l.Checkpoint(t, at))
	}
	for _, tile := range tlog.NewTiles(torchwood.TileHeight, 0, size) {
		data, err := tlog.ReadTileData(tile, l)
		if err != nil {
			t.Fatal(err)
		}
		put(torchwood.TilePath(tile), data)
		if tile.L == 0 {
			var bundle []byte
			for _, leaf := range l.Leaves[tile.N*torchwood.TileWidth:][:tile.W] {
				if bundle, err = torchwood.AppendTileEntry(bundle, leaf); err != nil {
					t.Fatal(err)
				}
			}
			tile.L = -1
			put(torchwood.TilePath(tile), bundle)
		}
	}
	return files
}

// SignedBy returns the log as if somebody had signed it with another key.
func (l *Log) SignedBy(seed string) *Log {
	other := *l
	other.keys = []string{Key(l.Origin, seed)}
	other.introduced = map[int64]bool{}
	return &other
}
