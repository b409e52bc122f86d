// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var (
	printedTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	// printedAlone are the lines that KV alone has: who wrote and deleted, and OpenBao's
	// versions of metadata. The engine keeps neither.
	printedAlone = regexp.MustCompile(`(?m)^(created_by|deleted_by|last_updated_by|current_metadata_version|metadata_cas_required) .*\n`)
	blanks       = regexp.MustCompile(`[ \t]+`)
	rulers       = regexp.MustCompile(`[=-]{2,}`)
)

// printed is what the vault command printed, but for names of mounts, times, and widths of
// columns.
func printed(out, mount string) string {
	out = printedTime.ReplaceAllString(strings.ReplaceAll(out, mount, "MOUNT"), "TIME")
	return rulers.ReplaceAllString(printedAlone.ReplaceAllString(blanks.ReplaceAllString(out, " "), ""), "==")
}

// ranServersProgram tells the table of compatibility of a client that is the server's own
// program.
func ranServersProgram(t *testing.T, s *devstack.Stack, name string) {
	t.Helper()
	out, err := s.ServerVersion()
	require.NoError(t, err)
	if strings.HasPrefix(out, "Vault") { // OpenBao has programs of its own
		compatibility.Ran(t, name, compatibility.VersionIn([]byte(out)), false)
	}
}

// TestKVCommandLine does everything that vault kv does, at both mounts, and compares what
// it prints. The command learns from Vault that the mount is one of version 2.
func TestKVCommandLine(t *testing.T) {
	m := withKV(t, shared(t))
	ranServersProgram(t, m.s, "vault kv")
	x := m.tenant + "/credentials/db/main"
	for _, args := range [][]string{
		{"get", "-mount=MOUNT", x},
		{"put", "-mount=MOUNT", x, "user=u", "password=p"},
		{"get", "-mount=MOUNT", x},
		{"get", "MOUNT/" + x},
		{"get", "-field=password", "-mount=MOUNT", x},
		{"put", "-cas=0", "-mount=MOUNT", x, "user=v"},
		{"put", "-cas=1", "-mount=MOUNT", x, "user=v"},
		{"get", "-version=1", "-mount=MOUNT", x},
		{"get", "-version=2", "-mount=MOUNT", x},
		{"patch", "-mount=MOUNT", x, "password=q"},
		{"patch", "-cas=9", "-mount=MOUNT", x, "password=r"},
		{"patch", "-method=rw", "-mount=MOUNT", x, "port=5432"},
		{"patch", "-remove-data=user", "-mount=MOUNT", x},
		{"patch", "-mount=MOUNT", x + "-none", "a=b"},
		{"get", "-mount=MOUNT", x},
		{"metadata", "put", "-custom-metadata=owner=billing", "-custom-metadata=env=prod", "-mount=MOUNT", x},
		{"metadata", "patch", "-custom-metadata=env=test", "-mount=MOUNT", x},
		{"metadata", "patch", "-remove-custom-metadata=owner", "-mount=MOUNT", x},
		{"metadata", "get", "-mount=MOUNT", x},
		{"get", "-mount=MOUNT", x},
		{"list", "-mount=MOUNT", m.tenant + "/credentials"},
		{"list", "-mount=MOUNT", m.tenant + "/credentials/db"},
		{"list", "MOUNT/" + m.tenant + "/credentials/db/"},
		{"list", "-mount=MOUNT", m.tenant + "/secrets"},
		{"delete", "-versions=1", "-mount=MOUNT", x},
		{"undelete", "-versions=1", "-mount=MOUNT", x},
		{"destroy", "-versions=1", "-mount=MOUNT", x},
		{"rollback", "-version=1", "-mount=MOUNT", x},
		{"delete", "-mount=MOUNT", x},
		{"metadata", "delete", "-mount=MOUNT", x},
		{"metadata", "get", "-mount=MOUNT", x},
	} {
		run := func(mount string) (string, bool) {
			command := append([]string{"kv"}, slices.Clone(args)...)
			for i := range command {
				command[i] = strings.ReplaceAll(command[i], "MOUNT", mount)
			}
			out, err := vaultCLI(t, m.s, command...)
			return printed(out, mount), err == nil
		}
		theirs, theyDo := run(m.theirs)
		ours, weDo := run(m.ours)
		assert.Equal(t, theirs, ours, args)
		assert.Equal(t, theyDo, weDo, args)
	}
}

// TestKVPreflight is what clients ask to learn which paths a mount has.
func TestKVPreflight(t *testing.T) {
	s := shared(t)
	m := withKV(t, s)
	a := callRoot(t, s, mGet, "sys/internal/ui/mounts/"+m.ours, nil)
	assert.Equal(t, map[string]any{"version": "2"}, succeeded(t, a)["options"])
	refused(t, callRoot(t, s, mPost, "sys/mounts/"+m.ours+"/tune", map[string]any{"options": map[string]any{"version": "1"}}), 400, "cannot downgrade")
	assert.Nil(t, succeeded(t, callRoot(t, s, mGet, "sys/internal/ui/mounts/dek", nil))["options"], "only a mount that was tuned")
}

// TestKVGoClient uses Vault's own Go client, which the External Secrets Operator, the
// Vault Secrets Operator and the Terraform provider are made with.
func TestKVGoClient(t *testing.T) {
	m := withKV(t, shared(t))
	version, err := compatibility.RequiredBy(".", "github.com/hashicorp/vault/api")
	require.NoError(t, err)
	compatibility.Ran(t, "Vault's Go client", version, true)
	ctx, x := t.Context(), m.tenant+"/secrets/go"
	kv := m.s.Client().KVv2(m.ours)
	_, err = kv.Get(ctx, x)
	require.ErrorIs(t, err, api.ErrSecretNotFound)
	first, err := kv.Put(ctx, x, map[string]any{"a": "1"}, api.WithCheckAndSet(0))
	require.NoError(t, err)
	assert.Equal(t, 1, first.VersionMetadata.Version)
	_, err = kv.Put(ctx, x, map[string]any{"a": "2"}, api.WithCheckAndSet(0))
	var refusedByCAS *api.ResponseError
	require.ErrorAs(t, err, &refusedByCAS)
	assert.Equal(t, 400, refusedByCAS.StatusCode)
	for _, method := range []api.KVOption{api.WithMergeMethod(api.KVMergeMethodPatch), api.WithMergeMethod(api.KVMergeMethodReadWrite)} {
		_, err = kv.Patch(ctx, x, map[string]any{"b": "2"}, method)
		require.NoError(t, err)
	}
	require.NoError(t, kv.PutMetadata(ctx, x, api.KVMetadataPutInput{CustomMetadata: map[string]any{"managed-by": "external-secrets"}}))
	require.NoError(t, kv.PatchMetadata(ctx, x, api.KVMetadataPatchInput{CustomMetadata: map[string]any{"env": "prod"}}))
	secret, err := kv.Get(ctx, x)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "1", "b": "2"}, secret.Data)
	assert.Equal(t, 3, secret.VersionMetadata.Version)
	assert.Equal(t, map[string]any{"managed-by": "external-secrets", "env": "prod"}, secret.CustomMetadata)
	known, err := kv.GetMetadata(ctx, x)
	require.NoError(t, err)
	assert.Equal(t, []int{3, 3, 1}, []int{known.CurrentVersion, known.OldestVersion, len(known.Versions)})
	versions, err := kv.GetVersionsAsList(ctx, x)
	require.NoError(t, err)
	require.Len(t, versions, 1)
	_, err = kv.GetVersion(ctx, x, 1)
	require.ErrorIs(t, err, api.ErrSecretNotFound)
	require.NoError(t, kv.Delete(ctx, x))
	require.NoError(t, kv.DeleteMetadata(ctx, x))
	_, err = kv.GetMetadata(ctx, x)
	require.ErrorIs(t, err, api.ErrSecretNotFound)
}

// TestKVAgentTemplate lets Vault Agent write a file from a template. Its path has the
// part data: Vault Agent puts that in by itself only for mounts of the type kv.
func TestKVAgentTemplate(t *testing.T) {
	m := withKV(t, shared(t))
	ranServersProgram(t, m.s, "Vault Agent")
	write(t, m.s, m.ours+"/data/"+m.tenant+"/secrets/app", kvData(map[string]any{"password": "from the agent"}))
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(m.s.RootToken()), 0o600))
	config := `
exit_after_auth = true
vault { address = "` + m.s.VaultAddr() + `" }
auto_auth { method { type = "token_file" config = { token_file_path = "` + filepath.Join(dir, "token") + `" } } }
template {
  contents = "{{ with secret \"` + m.ours + "/data/" + m.tenant + `/secrets/app\" }}{{ .Data.data.password }}{{ end }}"
  destination = "` + out + `"
}
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "agent.hcl"), []byte(config), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), rotationLimit)
	defer cancel() // without the secret, Vault Agent waits for it
	cmd := exec.CommandContext(ctx, vaultBin(t), "agent", "-config="+filepath.Join(dir, "agent.hcl"))
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	log, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", log)
	written, err := os.ReadFile(out)
	require.NoError(t, err, "%s", log)
	assert.Equal(t, "from the agent", string(written))
}
