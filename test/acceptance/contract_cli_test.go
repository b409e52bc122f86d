// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// vaultBin is the vault command that the stack runs.
func vaultBin(t *testing.T) string {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	bin := os.Getenv("VAULT_BIN")
	if bin == "" {
		bin = filepath.Join(root, "bin", "vault")
	}
	return bin
}

// vaultCLI runs the vault command as an operator does.
func vaultCLI(t *testing.T, s *devstack.Stack, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), vaultBin(t), args...)
	cmd.Env = []string{"VAULT_ADDR=" + s.VaultAddr(), "VAULT_TOKEN=" + s.RootToken(), "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestContractPathHelp asks for the help of every path there is.
func TestContractPathHelp(t *testing.T) {
	s := shared(t)
	seen := map[string]bool{}
	for _, p := range served() {
		path := examples(p.path, devTenant)[0]
		if seen[path] {
			continue
		}
		seen[path] = true
		out, err := vaultCLI(t, s, "path-help", path)
		require.NoError(t, err, out)
		assert.Contains(t, out, "## DESCRIPTION", path)
		for _, missing := range []string{"<missing", "No help", "N/A", "not documented"} {
			assert.NotContains(t, out, missing, path)
		}
	}
	out, err := vaultCLI(t, s, "path-help", "dek")
	require.NoError(t, err, out)
	assert.Greater(t, len(strings.Fields(out)), 40, "the engine says what it is")
}

// TestContractOpenAPI looks at what Vault's interactive documentation and the
// generators of clients get, for every operation of every path.
func TestContractOpenAPI(t *testing.T) {
	s := shared(t)
	a := callRoot(t, s, http.MethodGet, "sys/internal/specs/openapi", nil)
	require.Equal(t, http.StatusOK, a.Status)
	described, _ := a.Body["paths"].(map[string]any)
	paths := map[string]any{}
	for path, operations := range described {
		paths[sameNames.Replace(path)] = operations
	}
	names, noPatch := map[any]string{}, withoutPatch(a.Body)
	for _, p := range served() {
		if p.operation == "patch" && noPatch {
			continue
		}
		op := describedOperation(paths, p)
		if !assert.NotNil(t, op, "%s %s is not there", p.operation, p.path) {
			continue
		}
		assert.NotEmpty(t, op["summary"], "%s %s", p.operation, p.path)
		name, _ := op["operationId"].(string)
		assert.Regexp(t, `^dek-[a-z]+(-[a-z]+)*$`, name, "%s %s", p.operation, p.path)
		assert.Empty(t, names[name], "%s is %s %s, too", name, p.operation, p.path)
		names[name] = p.path

		responses, _ := op["responses"].(map[string]any)
		if responses["204"] != nil && responses["200"] == nil || p.path == "metrics" {
			continue // nothing to describe, or no JSON
		}
		ok200, _ := responses["200"].(map[string]any)
		content, _ := ok200["content"].(map[string]any)
		assert.Contains(t, content, "application/json", "%s %s has no schema", p.operation, p.path)
	}
}

// describedOperation is an operation as Vault's OpenAPI document has it, nil if
// it does not. Where lists are, a path may end in a slash.
func describedOperation(paths map[string]any, p permission) map[string]any {
	method := map[string]string{"read": "get", "list": "get", "update": "post", "patch": "patch", "delete": "delete"}[p.operation]
	forms := []string{"/dek/" + p.path, "/dek/" + p.path + "/"}
	if p.operation == "list" { // a path that is read as well has its list behind the slash
		slices.Reverse(forms)
	}
	for _, path := range forms {
		described, _ := paths[path].(map[string]any)
		if op, ok := described[method].(map[string]any); ok {
			return op
		}
	}
	return nil
}

func TestContractCommandLine(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	_, err := s.Seed(t.Context(), tenant)
	require.NoError(t, err)

	t.Run("write -f dek/rotate", func(t *testing.T) {
		out, err := vaultCLI(t, s, "write", "-f", tenantPath(tenant, "dek/rotate"))
		require.NoError(t, err, out)
		assert.Contains(t, out, "in_progress")
		history := keys(t, callRoot(t, s, "LIST", tenantPath(tenant, "dek/rotations"), nil))
		require.Len(t, history, 1)
		assert.Contains(t, out, history[0])
		waitRotation(t, s, tenant, history[0], "completed")
	})
	t.Run("read and patch of the settings", func(t *testing.T) {
		mount := withMount(t, s)
		out, err := vaultCLI(t, s, "read", "-field=rotation_interval", mount+"/key/rotationSettings")
		require.NoError(t, err, out)
		assert.Equal(t, "365_DAYS", strings.TrimSpace(out))
		out, err = vaultCLI(t, s, "patch", mount+"/key/rotationSettings", "rotation_interval=120_DAYS")
		require.NoError(t, err, out)
		out, err = vaultCLI(t, s, "read", mount+"/key/rotationSettings")
		require.NoError(t, err, out)
		for _, word := range []string{"org_id", "valid_rotation_intervals", "90_DAYS 120_DAYS 180_DAYS 365_DAYS", "120_DAYS"} {
			assert.Contains(t, out, word)
		}
		out, err = vaultCLI(t, s, "patch", mount+"/key/rotationSettings", "rotation_interval=1_DAY")
		require.Error(t, err)
		assert.Contains(t, out, "Code: 400")
		assert.Contains(t, out, "90_DAYS, 120_DAYS, 180_DAYS, 365_DAYS")
	})
	t.Run("config takes text", func(t *testing.T) {
		mount := withMount(t, s)
		out, err := vaultCLI(t, s, "write", mount+"/config", "rotation_parallelism=8", "max_item_bytes=1000")
		require.NoError(t, err, out)
		config := succeeded(t, callRoot(t, s, http.MethodGet, mount+"/config", nil))
		assert.Equal(t, []any{8.0, 1000.0}, []any{config["rotation_parallelism"], config["max_item_bytes"]})
	})
	t.Run("items", func(t *testing.T) {
		out, err := vaultCLI(t, s, "list", tenantPath(tenant, "secrets"))
		require.NoError(t, err, out)
		assert.Len(t, strings.Fields(out), 52, "two lines of heading")
		path := tenantPath(tenant, "secrets/cli")
		put(t, s, path, map[string]any{"data": map[string]any{"v": 1}})
		out, err = vaultCLI(t, s, "delete", path)
		require.NoError(t, err, out)
		_, err = vaultCLI(t, s, "read", path)
		assert.Error(t, err)
	})
}
