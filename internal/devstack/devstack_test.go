// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExampleItems(t *testing.T) {
	counts := map[string]int{}
	seen := map[string]bool{}
	for _, item := range exampleItems() {
		counts[item.Kind]++
		key := item.Kind + " " + item.Name
		assert.False(t, seen[key], "%s is there twice", key)
		seen[key] = true
	}
	assert.Equal(t, map[string]int{"credentials": 25, "apiKeys": 10, "secrets": 50}, counts)
}

func TestRepoRoot(t *testing.T) {
	root, err := RepoRoot()
	require.NoError(t, err)
	assert.FileExists(t, root+"/bootstrap/bootstrap.sh")

	t.Chdir(t.TempDir())
	_, err = RepoRoot()
	assert.ErrorContains(t, err, "not inside the repository")
}

func TestOptionsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"storage": {Options{Storage: "disk"}, `storage "disk"`},
		"binary":  {Options{VaultBin: "/nonexistent/vault"}, "make vault"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), c.opts)
			assert.ErrorContains(t, err, c.want)
		})
	}
}
