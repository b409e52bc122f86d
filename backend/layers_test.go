// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const internalPath = "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/"

// layers are the engine's rooms, the lowest first. A room imports lower ones only.
// Those that are for tests alone are imported by tests alone.
var layers = []string{
	"actor", "admission", "storage", "jobs", "logkeys", "logindex", "evidencelog", "witnesses", "people", "ledger",
	"lease", "keyring", "item", "page", "pagedir", "pageedit", "settings", "kms", "provider", "importstore", "keystore", "tenant", "itemstore",
	"encryption", "destruction", "deletion", "kekrotation", "wrappingkey", "intents", "rotation", "holders", "dueindex", "schedule", "restored",
	"api", "api/encrypt", "api/evidence", "api/fleet", "api/holders", "api/kek", "api/kv", "api/metrics", "api/providers",
}

// isGlue tells rooms that speak to Vault's framework, as package backend does.
func isGlue(room string) bool { return room == "." || room == "api" || strings.HasPrefix(room, "api/") }

var forTests = []string{
	"keyring/keyringtest", "storagetest", "provider/providertest",
	"enginetest", "enginetest/crash", "enginetest/interleave", "enginetest/outage", "enginetest/snapshot", "enginetest/fleet",
	"enginetest/histories",
}

// eachFile calls f with the syntax of every Go file of the engine that is no test.
func eachFile(t *testing.T, f func(room, path string, file *ast.File)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		room := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "internal/")
		if !slices.Contains(forTests, room) {
			f(room, path, file)
		}
		return nil
	}))
}

func importsOf(t *testing.T, file *ast.File) (paths []string) {
	t.Helper()
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		require.NoError(t, err)
		paths = append(paths, path)
	}
	return paths
}

// A lower room never imports a higher one, nor Vault's framework.
func TestLayers(t *testing.T) {
	rooms := 0
	eachFile(t, func(room, path string, file *ast.File) {
		if room == "." {
			return
		}
		rooms++
		at := slices.Index(layers, room)
		require.GreaterOrEqual(t, at, 0, "%s is in no layer: name it in layers", path)
		for _, i := range importsOf(t, file) {
			if !isGlue(room) {
				require.NotContains(t, i, "vault/sdk/framework", "%s knows Vault's framework", path)
			}
			if lower, ours := strings.CutPrefix(i, internalPath); ours {
				n := slices.Index(layers, lower)
				require.GreaterOrEqual(t, n, 0, "%s imports %s", path, lower)
				require.Less(t, n, at, "%s imports %s, which is not below it", path, lower)
			}
		}
	})
	require.NotZero(t, rooms)
}

// Only the room storage reaches Vault's storage, and the adapter to the write-ahead
// log. (jobs tells, by logical's error, that storage can only be read.)
func TestOneDoorToStorage(t *testing.T) {
	eachFile(t, func(room, path string, file *ast.File) {
		if isGlue(room) || room == "storage" || room == "jobs" {
			return
		}
		require.NotContains(t, importsOf(t, file), "github.com/hashicorp/vault/sdk/logical", path)
	})
}

// The glue takes no lock of a tenant, starts no goroutine and reads no clock: only
// Factory names one.
func TestGlueOnly(t *testing.T) {
	eachFile(t, func(room, path string, file *ast.File) {
		if !isGlue(room) {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", path)
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok {
					name := f.Sel.Name
					pkg, _ := f.X.(*ast.Ident)
					if name == "Exclusive" || name == "Shared" || name == "Hold" || name == "Now" && pkg != nil && pkg.Name == "time" {
						t.Errorf("%s calls %s", path, name)
					}
				}
			}
			return true
		})
	})
}

// A package that a reader can keep in mind: few lines of code in each, tests and what
// tests alone import apart, and no file that is long.
func TestRoomsAreSmall(t *testing.T) {
	const maxFile, maxRoom, maxGlue = 300, 2300, 3800
	lines := map[string]int{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n := strings.Count(string(text), "\n")
		require.LessOrEqual(t, n, maxFile, "lines of %s", path)
		if !strings.HasSuffix(path, "_test.go") {
			lines[filepath.Dir(path)] += n
		}
		return nil
	}))
	require.LessOrEqual(t, lines["."], maxGlue, "lines of the glue")
	delete(lines, ".")
	require.Greater(t, len(lines), len(layers))
	for room, n := range lines {
		if !slices.Contains(forTests, strings.TrimPrefix(room, "internal/")) {
			require.LessOrEqual(t, n, maxRoom, "lines of %s", room)
		}
	}
}
