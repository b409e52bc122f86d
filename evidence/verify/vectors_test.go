// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectors = "../testdata/log"

// The vectors are a log that an older version exported: what it signed is verified by
// every later one.
func TestVectors(t *testing.T) {
	if *update {
		log := evidencetest.GoodStory(t, 20)
		files := log.Files(t)
		files["vkey"] = &fstest.MapFile{Data: []byte(log.VKey() + "\n")}
		files["kept"] = &fstest.MapFile{Data: log.Checkpoint(t, 100)}
		require.NoError(t, os.RemoveAll(vectors))
		writeFiles(t, vectors, files)
	}
	source, err := verify.Dir(vectors)
	require.NoError(t, err)
	result, err := verify.Log(t.Context(), source, verify.Options{
		VKeys: []string{read(t, "vkey")}, Kept: []byte(read(t, "kept") + "\n"), Now: evidencetest.GoodUntil,
	})
	require.NoError(t, err)
	require.Empty(t, texts(result.Broken))
	require.True(t, result.Trusted)
	require.EqualValues(t, 266, result.Size)
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name))
	require.NoError(t, err)
	return strings.TrimSuffix(string(data), "\n")
}

func writeFiles(t *testing.T, dir string, files fstest.MapFS) {
	t.Helper()
	for name, file := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, file.Data, 0o600))
	}
}

// The second verifier agrees, on the vectors and on what is wrong with them: each byte of
// what it reads that is flipped, and each thing that is left out.
func TestSecondVerifierAgrees(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not there")
	}
	good := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(os.DirFS(vectors), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(vectors, path))
		good[path] = &fstest.MapFile{Data: data}
		return err
	}))
	cases := map[string]func(fstest.MapFS){
		"as it is": func(fstest.MapFS) {},
		"a late tenant": func(files fstest.MapFS) {
			replaceFiles(files, lateStory(t).Files(t))
		},
		"signed by a stranger": func(files fstest.MapFS) {
			replaceFiles(files, evidencetest.GoodStory(t, 20).SignedBy("stranger").Files(t))
		},
		"a snapshot": func(files fstest.MapFS) {
			all := evidencetest.GoodStory(t, 20)
			replaceFiles(files, remake(t, all, func(leaves [][]byte) [][]byte { return leaves[:60] }).Files(t))
		},
		"a fork": func(files fstest.MapFS) {
			all := evidencetest.GoodStory(t, 20)
			replaceFiles(files, remake(t, all, func(leaves [][]byte) [][]byte {
				return append(leaves[:60:60], leaves[80:]...)
			}).Files(t))
		},
	}
	for name, file := range good {
		if name == "vkey" || name == "keys" || name == "kept" {
			continue
		}
		cases["without "+name] = func(files fstest.MapFS) { delete(files, name) }
		for _, at := range []int{len(file.Data) / 2, len(file.Data) - 1} {
			cases[fmt.Sprintf("byte %d of %s", at, name)] = func(files fstest.MapFS) { files[name].Data[at] ^= 1 }
		}
	}
	for name, tamper := range cases {
		t.Run(name, func(t *testing.T) {
			files := copyOf(good)
			tamper(files)
			ours, err := verify.Log(t.Context(), verify.FS(files), verify.Options{
				VKeys: []string{read(t, "vkey")}, Kept: good["kept"].Data, Now: evidencetest.GoodUntil,
			})
			require.NoError(t, err)
			dir := t.TempDir()
			writeFiles(t, dir, files)
			output, err := exec.CommandContext(t.Context(), python, "../testdata/verify.py", dir,
				"--vkey", read(t, "vkey"), "--kept", filepath.Join(vectors, "kept"),
				"--now", evidencetest.GoodUntil.Format(time.RFC3339)).Output()
			require.NoError(t, err)
			var theirs struct {
				OK    bool     `json:"ok"`
				Size  int64    `json:"size"`
				Root  string   `json:"root_hash"`
				Codes []string `json:"codes"`
			}
			require.NoError(t, json.Unmarshal(output, &theirs))
			require.Equal(t, ours.OK(), theirs.OK, "ours:\n%s\ntheirs: %v", texts(ours.Broken), theirs.Codes)
			require.Equal(t, ours.Size, theirs.Size)
			require.Equal(t, ours.Root, theirs.Root)
			for _, code := range theirs.Codes {
				// Ours says what was done to an entry, and judges no ages beyond a gap.
				if code != "tile" && code != "root" && code != "malformed" && (code != "late" || !ours.Has("gap")) {
					require.True(t, ours.Has(code), "theirs: %v, ours:\n%s", theirs.Codes, texts(ours.Broken))
				}
			}
		})
	}
}

func replaceFiles(files, other fstest.MapFS) {
	for name := range files {
		if name != "vkey" && name != "kept" {
			delete(files, name)
		}
	}
	for name, file := range other {
		files[name] = file
	}
}

// lateStory has a tenant that was not rotated for a year.
func lateStory(t *testing.T) *evidencetest.Log {
	t.Helper()
	log := evidencetest.GoodStory(t, 20)
	s := evidencetest.Story{T: t, Log: log}
	s.Create(99, evidencetest.Begin)
	return log
}
