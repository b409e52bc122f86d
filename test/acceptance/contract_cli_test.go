// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// vaultCLI runs the vault command as an operator does.
func vaultCLI(t *testing.T, s *devstack.Stack, args ...string) (string, error) {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	bin := os.Getenv("VAULT_BIN")
	if bin == "" {
		bin = filepath.Join(root, "bin", "vault")
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = []string{"VAULT_ADDR=" + s.VaultAddr(), "VAULT_TOKEN=" + s.RootToken(), "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// contractPaths is every path that is built, with the operations that it has.
var contractPaths = map[string][]string{
	"/config":                                          {"get", "post"},
	"/key/rotationSettings":                            {"get", "post", "patch"},
	"/tenants":                                         {"get"},
	"/tenants/{tenant_id}":                             {"get", "post"},
	"/tenants/{tenant_id}/dek":                         {"get"},
	"/tenants/{tenant_id}/dek/rotate":                  {"post"},
	"/tenants/{tenant_id}/dek/rotations":               {"get"},
	"/tenants/{tenant_id}/dek/rotations/{rotation_id}": {"get"},
	"/tenants/{tenant_id}/{kind}":                      {"get"},
	"/tenants/{tenant_id}/{kind}/{name}":               {"get", "post", "patch", "delete"},
	"/tenants/{tenant_id}/items":                       {"post"},
	"/rotations":                                       {"get"},
}

func TestContractPathHelp(t *testing.T) {
	s := shared(t)
	fill := strings.NewReplacer("{tenant_id}", devTenant, "{rotation_id}", "rot-"+devTenant, "{kind}", "secrets", "{name}", "a/b")
	for path := range contractPaths {
		out, err := vaultCLI(t, s, "path-help", "dek"+fill.Replace(path))
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
// generators of clients get.
func TestContractOpenAPI(t *testing.T) {
	s := shared(t)
	a := callRoot(t, s, http.MethodGet, "sys/internal/specs/openapi", nil)
	require.Equal(t, http.StatusOK, a.Status)
	paths, _ := a.Body["paths"].(map[string]any)
	for path, operations := range contractPaths {
		described, _ := paths["/dek"+path].(map[string]any)
		list, _ := paths["/dek"+path+"/"].(map[string]any) // where lists are, if writes are without the slash
		for _, operation := range operations {
			op, ok := described[operation].(map[string]any)
			if !ok {
				op, ok = list[operation].(map[string]any)
			}
			if !assert.True(t, ok, "%s %s is not there", operation, path) {
				continue
			}
			assert.NotEmpty(t, op["summary"], "%s %s", operation, path)
			responses, _ := op["responses"].(map[string]any)
			if operation == "delete" {
				assert.Contains(t, responses, "204", path)
				continue
			}
			ok200, _ := responses["200"].(map[string]any)
			content, _ := ok200["content"].(map[string]any)
			assert.Contains(t, content, "application/json", "%s %s has no schema", operation, path)
		}
	}
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
