// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package compatibility

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTableIsRenderedFromRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	t.Setenv(Record, file)
	for _, r := range []Row{
		{"Vault", "1.9.1", "short form"},
		{"Vault", "1.21.4", "all"},
		{"hvac", "0.11.2", "TestB/deep"},
		{"hvac", "0.11.2", "TestB/other"},
		{"hvac", "0.11.2", "TestD"},
		{"hvac", "0.11.2", "TestA"},
		{"hvac", "0.11.2", "TestC"},
	} {
		require.NoError(t, Note(r, true))
	}
	rows, err := Read(file)
	require.NoError(t, err)
	const old = "# Title\n\n" + begin + "\n| old |\n\n" + end + "\nmore\n"
	text, err := Render(old, rows)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, "# Title\n\n"+begin+"\n| What | Version | Run by |\n|---|---|---|\n"+
		"| Vault | 1.21.4 | all |\n| Vault | 1.9.1 | short form |\n| OpenBao | | not run here |\n"), text)
	require.Contains(t, text, "\n| hvac | 0.11.2 | `TestA`, `TestB`, `TestC` and 1 more |\n")
	require.True(t, strings.HasSuffix(text, "\n\n"+end+"\nmore\n"), text)
	require.NotContains(t, text, "old")
	again, err := Render(text, rows)
	require.NoError(t, err)
	require.Equal(t, text, again)
	_, err = Render("# Title\n", rows)
	require.ErrorContains(t, err, "no place")
}

// A pinned version that the table lacks fails the test that ran with it; one that the
// machine brings along is only recorded.
func TestCommittedTableHasWhatIsPinned(t *testing.T) {
	recording := os.Getenv(Record) != ""
	t.Setenv(Record, "")
	require.ErrorContains(t, Note(Row{"Vault", "0.0.1", "TestX"}, true), "TestX ran with Vault 0.0.1")
	require.NoError(t, Note(Row{"Vault", "0.0.1", "TestX"}, false))
	require.ErrorContains(t, Note(Row{"Elsewhere", "1", "TestX"}, false), "no rows of Elsewhere")
	if recording {
		return // the table is to be made anew
	}
	for _, pinned := range []struct{ name, dir, module string }{
		{"Vault", "scripts/vault", "github.com/hashicorp/vault"},
		{"Vault's Go client", ".", "github.com/hashicorp/vault/api"},
		{"External Secrets Operator", "test/externalsecrets", "github.com/external-secrets/external-secrets"},
		{"Go", ".", "go"},
	} {
		version, err := RequiredBy(pinned.dir, pinned.module)
		require.NoError(t, err)
		require.NoError(t, Note(Row{pinned.name, version, "what " + pinned.dir + "/go.mod requires"}, true))
	}
}

// The committed table has a row of every name, as Render writes it.
func TestCommittedTableIsWhole(t *testing.T) {
	text, err := os.ReadFile("../../" + Document)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	body, _, found := strings.Cut(rest, end)
	require.True(t, found)
	var have []string
	for line := range strings.Lines(body) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if name := strings.TrimPrefix(cells[0], "| "); strings.HasPrefix(line, "| ") && name != "What" {
			have = append(have, name)
		}
	}
	require.Equal(t, names, slices.Compact(have))
}

func TestVersionIn(t *testing.T) {
	for out, want := range map[string]string{
		"Vault v1.21.4 (abc), built": "1.21.4", "OpenBao v2.5.5": "2.5.5", "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)": "15.14", "2.6.1\n": "2.6.1", "none": "",
	} {
		require.Equal(t, want, VersionIn([]byte(out)))
	}
}
