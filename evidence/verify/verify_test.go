// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/torchwood"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

func run(t *testing.T, files fstest.MapFS, options verify.Options) *verify.Result {
	t.Helper()
	options.Now = evidencetest.GoodUntil
	result, err := verify.Log(t.Context(), verify.FS(files), options)
	require.NoError(t, err)
	return result
}

func texts(findings []verify.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Code+": "+f.Text)
	}
	return strings.Join(all, "\n")
}

func TestGoodLogHolds(t *testing.T) {
	for _, tenants := range []int{0, 1, 3, 40} {
		log := evidencetest.GoodStory(t, tenants)
		files := log.Files(t)
		result := run(t, files, verify.Options{VKeys: []string{log.VKey()}, Kept: log.Checkpoint(t, 1)})
		require.Empty(t, texts(result.Broken))
		require.True(t, result.Trusted)
		require.Equal(t, int64(len(log.Leaves)), result.Size)
		for _, code := range []string{
			verify.CodeRoot, verify.CodeSignature, verify.CodeKept, history.CodeGap, history.CodePagesLeft,
			history.CodeNotDestroyed, history.CodeLate,
		} {
			require.Contains(t, texts(result.Holds), code+": ", code)
		}
	}
}

func TestTrustComesFromOutside(t *testing.T) {
	log := evidencetest.GoodStory(t, 2)
	files := log.Files(t)
	size := int64(len(log.Leaves))
	for name, test := range map[string]struct {
		options verify.Options
		trusted bool
	}{
		"nothing":         {verify.Options{}, false},
		"the first key":   {verify.Options{VKeys: []string{log.VKey()}}, true},
		"the present key": {verify.Options{VKeys: []string{strings.Fields(string(files["keys"].Data))[0]}}, true},
		"a checkpoint":    {verify.Options{Kept: log.Checkpoint(t, size-3)}, true},
		"the same":        {verify.Options{Kept: log.Checkpoint(t, size)}, true},
		"without its LF":  {verify.Options{Kept: bytes.TrimSuffix(log.Checkpoint(t, size-3), []byte("\n"))}, true},
		"the first":       {verify.Options{Kept: log.Checkpoint(t, 1)}, true},
	} {
		result := run(t, files, test.options)
		require.Empty(t, texts(result.Broken), name)
		require.Equal(t, test.trusted, result.Trusted, name)
	}
}

// copyOf is deep: a test may change bytes.
func copyOf(files fstest.MapFS) fstest.MapFS {
	other := fstest.MapFS{}
	for name, file := range files {
		other[name] = &fstest.MapFile{Data: bytes.Clone(file.Data)}
	}
	return other
}

// rewrite changes the entries of a bundle.
func rewrite(t *testing.T, files fstest.MapFS, name string, change func([][]byte) [][]byte) {
	t.Helper()
	var leaves [][]byte
	for data := files[name].Data; len(data) > 0; {
		leaf, rest, err := torchwood.ReadTileEntry(data)
		require.NoError(t, err)
		leaves, data = append(leaves, leaf), rest
	}
	var bundle []byte
	for _, leaf := range change(leaves) {
		var err error
		bundle, err = torchwood.AppendTileEntry(bundle, leaf)
		require.NoError(t, err)
	}
	files[name].Data = bundle
}

// remake returns a log with other entries, signed with the right keys: what only the
// holder of the key can make.
func remake(t *testing.T, log *evidencetest.Log, change func([][]byte) [][]byte) *evidencetest.Log {
	t.Helper()
	other := evidencetest.NewLog(1)
	for _, leaf := range change(append([][]byte(nil), log.Leaves...)) {
		other.AddLeaf(t, leaf)
	}
	return other
}

const (
	firstBundle = "tile/entries/000"
	firstTile   = "tile/0/000"
	topTile     = "tile/1/000.p/1"
)

// Each way of tampering fails, with the sentence that says which.
func TestTampering(t *testing.T) {
	log := evidencetest.GoodStory(t, 30)
	good := log.Files(t)
	require.Contains(t, good, firstBundle)
	require.Contains(t, good, topTile)
	size := int64(len(log.Leaves))
	flip := func(name string, at int) func(fstest.MapFS) {
		return func(files fstest.MapFS) { files[name].Data[at] ^= 1 }
	}
	edit := func(change func([][]byte) [][]byte) func(fstest.MapFS) {
		return func(files fstest.MapFS) { rewrite(t, files, firstBundle, change) }
	}
	replace := func(other fstest.MapFS) func(fstest.MapFS) {
		return func(files fstest.MapFS) {
			clear(files)
			maps.Copy(files, copyOf(other))
		}
	}
	swap := func(leaves [][]byte) [][]byte {
		leaves[5], leaves[9] = leaves[9], leaves[5]
		return leaves
	}
	drop := func(leaves [][]byte) [][]byte { return append(leaves[:7:7], leaves[8:]...) }
	forge := func(leaves [][]byte) [][]byte {
		leaves[40] = bytes.Replace(leaves[40], []byte("person-1"), []byte("person-2"), 1)
		return leaves
	}
	older := evidencetest.GoodStory(t, 30)
	snapshot := remake(t, older, func(leaves [][]byte) [][]byte { return leaves[:100] })
	restored := remake(t, older, func(leaves [][]byte) [][]byte { // and it went on otherwise
		return append(leaves[:100:100], leaves[200:]...)
	})
	for _, test := range []struct {
		name    string
		tamper  func(fstest.MapFS)
		code    string
		says    string
		options verify.Options
	}{
		{"a byte of a leaf", flip(firstBundle, 1000), verify.CodeEntry, "is not the one that was logged: its hash is not the one in " + firstTile, verify.Options{}},
		{"a byte of a tile", flip(firstTile, 100), verify.CodeTile, "The tile " + firstTile + " is not what the entries make; the entries are those that were signed.", verify.Options{}},
		{"a byte of the top tile", flip(topTile, 3), verify.CodeTile, "The tile " + topTile + " is not what", verify.Options{}},
		{"a byte of the checkpoint's origin", flip("checkpoint", 3), verify.CodeCheckpoint, "not a signed note of a log of this engine", verify.Options{}},
		{"a byte of the checkpoint's root", func(files fstest.MapFS) {
			lines := strings.SplitN(string(files["checkpoint"].Data), "\n", 4)
			lines[2] = "A" + lines[2][1:]
			files["checkpoint"].Data = []byte(strings.Join(lines, "\n"))
		}, verify.CodeRoot, "The entries do not make the root hash", verify.Options{}},
		{"a byte of the checkpoint's root, signature", func(files fstest.MapFS) {
			lines := strings.SplitN(string(files["checkpoint"].Data), "\n", 4)
			lines[2] = "A" + lines[2][1:]
			files["checkpoint"].Data = []byte(strings.Join(lines, "\n"))
		}, verify.CodeSignature, "is not signed by the key that was given", verify.Options{}},
		{"a byte of the signature", func(files fstest.MapFS) {
			data := files["checkpoint"].Data
			at := len(data) - 20
			if data[at] == 'A' {
				data[at] = 'B'
			} else {
				data[at] = 'A'
			}
		}, verify.CodeSignature, "is not signed by the key that was given", verify.Options{}},
		{"no signature", func(files fstest.MapFS) {
			text, _, _ := bytes.Cut(files["checkpoint"].Data, []byte("\n\n"))
			files["checkpoint"].Data = append(text, "\n\n"...)
		}, verify.CodeCheckpoint, "not a signed note", verify.Options{}},
		{"another size", func(files fstest.MapFS) {
			files["checkpoint"].Data = bytes.Replace(files["checkpoint"].Data, fmt.Appendf(nil, "\n%d\n", size), fmt.Appendf(nil, "\n%d\n", size-1), 1)
		}, verify.CodeSignature, "is not signed by", verify.Options{}},
		{"an entry dropped", edit(drop), verify.CodeDropped, "Entry 7 was taken out", verify.Options{}},
		{"the last entries dropped", edit(func(leaves [][]byte) [][]byte { return leaves[:200] }), verify.CodeMissing, "those from entry 200 on are missing", verify.Options{}},
		{"a bundle missing", func(files fstest.MapFS) { delete(files, firstBundle) }, verify.CodeMissing, "those from entry 0 on are missing", verify.Options{}},
		{"a tile missing", func(files fstest.MapFS) { delete(files, firstTile) }, verify.CodeMissing, "The tile " + firstTile + " is missing.", verify.Options{}},
		{"the checkpoint missing", func(files fstest.MapFS) { delete(files, "checkpoint") }, verify.CodeMissing, "There is no checkpoint.", verify.Options{}},
		{"an entry too many", edit(func(leaves [][]byte) [][]byte { return append(leaves, leaves[0]) }), verify.CodeEntry, "has more than its 256 entries", verify.Options{}},
		{"entries swapped", edit(swap), verify.CodeSwapped, "Entry 9 stands where entry 5 belongs.", verify.Options{}},
		{"an entry forged", edit(forge), verify.CodeEntry, "Entry 40 is not the one that was logged", verify.Options{}},
		{"an entry and its tile forged", func(files fstest.MapFS) {
			forged := remake(t, log, forge).Files(t)
			for name, file := range forged {
				if strings.HasPrefix(name, "tile/") {
					files[name] = file
				}
			}
		}, verify.CodeRoot, "they are not those that were signed", verify.Options{}},
		{"everything signed by a stranger", replace(log.SignedBy("stranger").Files(t)), verify.CodeSignature, "nor by one that it introduced", verify.Options{}},
		{"another log", replace(evidencetest.GoodStory(t, 2).Files(t)), verify.CodeWentBack, "storage went back, as a restored snapshot does", verify.Options{Kept: log.Checkpoint(t, size)}},
		{"entries dropped by the holder of the key", replace(remake(t, log, drop).Files(t)), history.CodeGap, "is missing before entry", verify.Options{}},
		{"entries swapped by the holder of the key", replace(remake(t, log, swap).Files(t)), history.CodeOrder, "", verify.Options{}},
		{"forged by the holder of the key", replace(remake(t, log, forge).Files(t)), verify.CodeFork, "The first 41 entries are not those of the checkpoint that was kept", verify.Options{Kept: log.Checkpoint(t, 41)}},
		{"a fork of the same size", replace(remake(t, log, forge).Files(t)), verify.CodeFork, "were signed with different roots: the log has two histories", verify.Options{Kept: log.Checkpoint(t, size)}},
		{"a replayed snapshot", replace(snapshot.Files(t)), verify.CodeWentBack, "The log has 100 entries, the checkpoint that was kept has", verify.Options{Kept: log.Checkpoint(t, size)}},
		{"a replayed snapshot that went on", replace(restored.Files(t)), verify.CodeFork, "The first 150 entries are not those of the checkpoint", verify.Options{Kept: log.Checkpoint(t, 150)}},
		{"a kept checkpoint of another log", func(fstest.MapFS) {}, verify.CodeKept, "is of another log", verify.Options{Kept: evidencetest.NewLog(2).Checkpoint(t, 0)}},
		{"a kept checkpoint of a stranger", func(fstest.MapFS) {}, verify.CodeKept, "is not signed by the key of this log", verify.Options{Kept: log.SignedBy("stranger").Checkpoint(t, 9)}},
		{"a kept text", func(fstest.MapFS) {}, verify.CodeKept, "was kept is not a signed note.", verify.Options{Kept: []byte("x")}},
		{"a kept file that is empty", func(fstest.MapFS) {}, verify.CodeKept, "was kept is not a signed note.", verify.Options{Kept: []byte{}}},
		{"a kept checkpoint that was cut off", func(fstest.MapFS) {}, verify.CodeKept, "was kept is not a signed note.", verify.Options{Kept: log.Checkpoint(t, 9)[:40]}},
		{"a kept checkpoint with CRLF", func(fstest.MapFS) {}, verify.CodeKept, "was kept is not a signed note.", verify.Options{Kept: bytes.ReplaceAll(log.Checkpoint(t, 9), []byte("\n"), []byte("\r\n"))}},
		{"a kept note of something else", func(fstest.MapFS) {}, verify.CodeKept, "is a signed note, but not the checkpoint of a log of this engine", verify.Options{Kept: bytes.Replace(log.Checkpoint(t, 9), []byte("vault-plugin-dek/"), []byte("example.com/"), 1)}},
		{"a new key that the old did not sign", func(files fstest.MapFS) {
			for name := range files {
				if strings.HasPrefix(name, "checkpoints/") {
					delete(files, name)
				}
			}
		}, verify.CodeKeyRotation, "names a new key, and the checkpoint that ends with it is not signed by both keys", verify.Options{}},
		{"no witness", func(fstest.MapFS) {}, verify.CodeWitness, "is not cosigned by the witness w.example", verify.Options{Witnesses: []string{witness(t).Verifier().String()}}},
		{"no key of a witness", func(fstest.MapFS) {}, verify.CodeWitness, "is not the verifier key of a witness", verify.Options{Witnesses: []string{"x"}}},
		{"a fork that the witness saw", func(files fstest.MapFS) {
			files["cosigned"] = &fstest.MapFile{Data: cosign(t, remake(t, log, forge).Checkpoint(t, 41))}
		}, verify.CodeFork, "The checkpoint that the witnesses signed is not of these entries", verify.Options{Witnesses: []string{witness(t).Verifier().String()}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := copyOf(good)
			test.tamper(files)
			test.options.VKeys = []string{log.VKey()}
			result := run(t, files, test.options)
			require.True(t, result.Has(test.code), "%s in:\n%s", test.code, texts(result.Broken))
			require.Contains(t, texts(result.Broken), test.says)
		})
	}
}

func witness(t *testing.T) *torchwood.CosignatureSigner {
	t.Helper()
	seed := sha256.Sum256([]byte("witness"))
	w, err := torchwood.NewCosignatureSigner("w.example", ed25519.NewKeyFromSeed(seed[:]))
	require.NoError(t, err)
	return w
}

// cosign adds the witness's signature to a checkpoint.
func cosign(t *testing.T, checkpoint []byte) []byte {
	t.Helper()
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, witness(t))
	require.NoError(t, err)
	_, line, _ := strings.Cut(string(signed), "\n\n")
	return append(bytes.Clone(checkpoint), line...)
}

func TestWitness(t *testing.T) {
	log := evidencetest.GoodStory(t, 2)
	files := log.Files(t)
	files["cosigned"] = &fstest.MapFile{Data: cosign(t, log.Checkpoint(t, 9))}
	result := run(t, files, verify.Options{VKeys: []string{log.VKey()}, Witnesses: []string{witness(t).Verifier().String()}})
	require.Empty(t, texts(result.Broken))
	require.Contains(t, texts(result.Holds), "The witness w.example cosigned the first 9 entries.")
}

func TestNextLogNeedsTheOneBefore(t *testing.T) {
	before := evidencetest.GoodStory(t, 2)
	size := int64(len(before.Leaves))
	next := evidencetest.NewLog(2)
	s := evidencetest.Story{T: t, Log: next}
	tree := before.Tree(t, size)
	s.Mount(evidencetest.Begin.Add(350*evidencetest.Day), &evidence.LogStarted{
		PluginVersion: "v1", PluginSHA256: "aa", OrgID: "org",
		PreviousLog: &evidence.Tree{Origin: before.Origin, Size: size, RootHash: tree.Hash.String()},
	})
	next.Add(t, evidence.Event{
		Head: evidence.Head{
			Seq: 20, Time: evidencetest.GoodUntil, TenantID: evidencetest.ID(0), Incarnation: evidencetest.ID(0),
		},
		Detail: &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 6)},
	})
	files := next.Files(t)
	vkeys := []string{next.VKey(), before.VKey()}
	result := run(t, files, verify.Options{VKeys: vkeys})
	require.Contains(t, texts(result.Broken), "and that one is not here")
	result = run(t, files, verify.Options{VKeys: vkeys, Previous: verify.FS(before.Files(t))})
	require.Empty(t, texts(result.Broken))
	result = run(t, files, verify.Options{VKeys: vkeys, Previous: verify.FS(evidencetest.GoodStory(t, 1).Files(t))})
	require.True(t, result.Has(verify.CodePrevious), texts(result.Broken))
}
