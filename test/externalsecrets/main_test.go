// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package externalsecrets

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	esv1 "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	esmeta "github.com/external-secrets/external-secrets/apis/meta/v1"
	_ "github.com/external-secrets/external-secrets/pkg/provider/vault" // registers itself for stores that name Vault
	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const (
	namespace = "application"
	upLimit   = 20 * time.Second
	tick      = 20 * time.Millisecond
)

// kubeconfig is what the provider insists on reading before it makes a client. A store
// with a token never connects to the cluster that it names.
const kubeconfig = `{"apiVersion": "v1", "kind": "Config", "current-context": "none",
"clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
"contexts": [{"name": "none", "context": {"cluster": "none"}}]}`

// policy is what docs/kv.md says that a client of the face needs, below one mount.
const policy = `path "%[1]s/data/%[2]s/*" { capabilities = ["read", "update", "create", "delete"] }
path "%[1]s/metadata/%[2]s/*" { capabilities = ["list", "read", "update", "create", "delete"] }
`

// mounts are a mount of KV version 2 and one of the engine that is tuned to look like
// one, with a tenant, and a token for both.
type mounts struct {
	vault        *api.Client
	addr         string
	theirs, ours string
	tenant       string
	token        string
}

func newMounts(t *testing.T) mounts {
	t.Helper()
	s, err := devstack.Start(t.Context(), devstack.Options{NoProxy: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Vault's log:\n%s", s.LogTail("vault"))
		}
		require.NoError(t, s.Stop())
	})
	m := mounts{vault: s.Client(), addr: s.VaultAddr(), theirs: "kv", ours: devstack.Mount, tenant: uuid.NewString()}
	require.NoError(t, m.vault.Sys().Mount(m.theirs, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	require.NoError(t, m.vault.Sys().TuneMountAllowNil(m.ours, api.TuneMountConfigInput{Options: &map[string]string{"version": "2"}}))
	m.eventually(t, m.theirs+"/config", map[string]any{"max_versions": 1}) // it is being upgraded, first
	m.eventually(t, m.ours+"/tenants/"+m.tenant, nil)                      // Vault takes the mount up anew

	rules := fmt.Sprintf(policy, m.theirs, m.tenant) + fmt.Sprintf(policy, m.ours, m.tenant)
	require.NoError(t, m.vault.Sys().PutPolicy("operator", rules))
	secret, err := m.vault.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"operator"}})
	require.NoError(t, err)
	m.token = secret.Auth.ClientToken

	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(kubeconfig), 0o600))
	t.Setenv("KUBECONFIG", path)
	return m
}

// eventually writes until Vault takes it.
func (m mounts) eventually(t *testing.T, path string, data map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := m.vault.Logical().WriteWithContext(t.Context(), path, data)
		return err == nil
	}, upLimit, tick, path)
}

// write writes below both mounts, past the provider.
func (m mounts) write(t *testing.T, path string, data map[string]any) {
	t.Helper()
	for _, mount := range []string{m.theirs, m.ours} {
		_, err := m.vault.Logical().WriteWithContext(t.Context(), mount+"/"+path, data)
		require.NoError(t, err, mount)
	}
}

// raw is the status of reading a path, past the provider.
func (m mounts) raw(t *testing.T, path string) int {
	t.Helper()
	resp, err := m.vault.Logical().ReadRawWithContext(t.Context(), path)
	require.NotNil(t, resp, "%v", err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// store is a SecretStore of one of the mounts, its token in a Kubernetes Secret.
func (m mounts) store(mount string) *esv1.SecretStore {
	return &esv1.SecretStore{
		TypeMeta:   metav1.TypeMeta{Kind: esv1.SecretStoreKind, APIVersion: esv1.SchemeGroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Name: mount, Namespace: namespace},
		Spec: esv1.SecretStoreSpec{Provider: &esv1.SecretStoreProvider{Vault: &esv1.VaultProvider{
			Server: m.addr, Path: &mount, Version: esv1.VaultKVStoreV2,
			Auth: &esv1.VaultAuth{TokenSecretRef: &esmeta.SecretKeySelector{Name: "vault", Key: "token"}},
		}}},
	}
}

// open makes the provider's client of a store, as the operator's controllers do.
func (m mounts) open(t *testing.T, store *esv1.SecretStore) esv1.SecretsClient {
	t.Helper()
	provider, err := esv1.GetProvider(store)
	require.NoError(t, err)
	_, err = provider.ValidateStore(store)
	require.NoError(t, err)
	kube := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "vault", Namespace: namespace},
		Data:       map[string][]byte{"token": []byte(m.token)},
	}).Build()
	c, err := provider.NewClient(t.Context(), store, kube, namespace)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(t.Context())) })
	return c
}

// revoke ends the token of the stores.
func (m mounts) revoke(t *testing.T) {
	t.Helper()
	require.NoError(t, m.vault.Auth().Token().RevokeTree(m.token))
	require.Equal(t, http.StatusOK, m.raw(t, "auth/token/lookup-self"), "the root token is another")
}
