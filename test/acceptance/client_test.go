// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// clientAs is the Go client with this token.
func clientAs(t *testing.T, s *devstack.Stack, token string) *client.Client {
	t.Helper()
	vault := s.Client()
	vault.SetToken(token)
	c, err := client.New(vault)
	require.NoError(t, err)
	return c
}

// applicationTenant is a fresh tenant, and the Go client as its application.
func applicationTenant(t *testing.T, s *devstack.Stack) *client.Tenant {
	t.Helper()
	id := newTenant(t, s)
	tenant, err := clientAs(t, s, login(t, s, id, "application")).Tenant(id)
	require.NoError(t, err)
	return tenant
}

// asRoot is the same tenant for those who may do all.
func asRoot(t *testing.T, s *devstack.Stack, tenant *client.Tenant) *client.Tenant {
	t.Helper()
	root, err := clientAs(t, s, s.RootToken()).Tenant(tenant.ID())
	require.NoError(t, err)
	return root
}

func rotateAndWait(t *testing.T, tenant *client.Tenant) *client.Rotation {
	t.Helper()
	r, err := tenant.Rotate(t.Context(), client.RotationRequest{Reason: "test"})
	require.NoError(t, err)
	r, err = tenant.WaitRotation(t.Context(), r.ID, rotationTick, nil)
	require.NoError(t, err)
	require.Equal(t, client.Completed, r.Status)
	return r
}

// An application encrypts in its process; after a rotation texts and files are
// rewrapped; after the old version is destroyed what was not rewrapped does not
// open, nor does anything of a tenant that is gone.
func TestClientEncrypts(t *testing.T) {
	s := shared(t)
	tenant := applicationTenant(t, s)
	root := asRoot(t, s, tenant)
	aead := tenant.AEAD()
	t.Cleanup(func() { assert.NoError(t, aead.Close()) })
	ad := []byte("row 7")

	text, err := aead.Encrypt([]byte("plaintext"), ad)
	require.NoError(t, err)
	sealed, err := tenant.EncryptBatch(t.Context(), []client.Plaintext{{Plaintext: []byte("plaintext"), AssociatedData: ad}})
	require.NoError(t, err)
	opened, err := tenant.DecryptBatch(t.Context(), []client.Ciphertext{{Ciphertext: string(text), AssociatedData: ad}})
	require.NoError(t, err)
	require.NoError(t, opened[0].Err)
	assert.Equal(t, "plaintext", string(opened[0].Plaintext), "the engine opens envelopes, too")
	var file bytes.Buffer
	w, err := tenant.EncryptStream(t.Context(), &file, ad)
	require.NoError(t, err)
	content := bytes.Repeat([]byte("content"), 300_000)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	rotateAndWait(t, root)
	out, err := aead.Rewrap(t.Context(), []client.Ciphertext{
		{Ciphertext: string(text), AssociatedData: ad},
		{Ciphertext: sealed[0].Ciphertext, AssociatedData: ad},
		{Ciphertext: string(text)},
	})
	require.NoError(t, err)
	for _, r := range out[:2] {
		require.NoError(t, r.Err)
		version, err := client.VersionOf(r.Ciphertext)
		require.NoError(t, err)
		assert.Equal(t, 2, version)
	}
	assert.ErrorIs(t, out[2].Err, client.ErrDecrypt)
	line, err := client.ReadFirstLine(&file)
	require.NoError(t, err)
	next, err := tenant.RewrapFirstLine(t.Context(), line)
	require.NoError(t, err)

	_, err = root.DestroyVersion(t.Context(), 1, false)
	assert.ErrorIs(t, err, client.ErrConflict, "it has an external key")
	_, err = root.DestroyVersion(t.Context(), 1, true)
	require.NoError(t, err)
	later := tenant.AEAD()
	t.Cleanup(func() { assert.NoError(t, later.Close()) })
	for _, r := range out[:2] {
		got, err := later.Decrypt([]byte(r.Ciphertext), ad)
		require.NoError(t, err)
		assert.Equal(t, "plaintext", string(got))
	}
	_, err = later.Decrypt(text, ad)
	assert.True(t, client.DoesNotOpen(err), "%v", err)
	r, err := tenant.DecryptStream(t.Context(), io.MultiReader(bytes.NewBufferString(next), &file), ad)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, got))

	require.NoError(t, root.Delete(t.Context(), nil))
	_, err = later.Decrypt([]byte(out[0].Ciphertext), ad)
	assert.NoError(t, err, "as long as the data key is kept")
	later.Forget()
	_, err = later.Decrypt([]byte(out[0].Ciphertext), ad)
	assert.ErrorIs(t, err, client.ErrNoTenant)
}

// The typed calls and their answers, as the engine has them.
func TestClientCalls(t *testing.T) {
	s := shared(t)
	application := applicationTenant(t, s)
	tenant := asRoot(t, s, application)
	root := clientAs(t, s, s.RootToken())
	ctx := t.Context()

	info, err := tenant.Write(ctx, client.TenantSettings{DisplayName: new("Example Ltd")})
	require.NoError(t, err)
	assert.Equal(t, "Example Ltd", info.DisplayName)
	assert.Equal(t, "active", info.State)
	assert.NotNil(t, info.NextRotationAt)

	revision, err := application.WriteItem(ctx, client.Credentials, "db/main", client.ItemWrite{
		Data: map[string]any{"password": "p", "old": true}, CAS: new(0),
	})
	require.NoError(t, err)
	assert.Equal(t, 1, revision)
	_, err = application.WriteItem(ctx, client.Credentials, "db/main", client.ItemWrite{Data: map[string]any{}, CAS: new(0)})
	assert.ErrorIs(t, err, client.ErrConflict)
	revision, err = application.PatchItem(ctx, client.Credentials, "db/main", client.ItemPatch{Data: map[string]any{"old": nil}})
	require.NoError(t, err)
	assert.Equal(t, 2, revision)
	item, err := application.ReadItem(ctx, client.Credentials, "db/main")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"password": "p"}, item.Data)
	assert.Equal(t, 1, item.KeyVersion)
	results, err := application.WriteItems(ctx, []client.BulkItem{
		{Kind: client.Secrets, Name: "a", ItemWrite: client.ItemWrite{Data: map[string]any{"n": 1}}},
		{Kind: client.Secrets, Name: "a//b"},
	})
	require.NoError(t, err)
	assert.Equal(t, 1, results[0].Revision)
	assert.NotEmpty(t, results[1].Error)
	names, err := application.Items(ctx, client.Secrets, client.Page{})
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
	names, err = application.Items(ctx, client.APIKeys, client.Page{})
	require.NoError(t, err)
	assert.Empty(t, names)
	require.NoError(t, application.DeleteItem(ctx, client.Secrets, "a", new(1)))
	assert.ErrorIs(t, application.DeleteItem(ctx, client.Secrets, "a", nil), client.ErrNotFound)

	r := rotateAndWait(t, tenant)
	assert.EqualValues(t, 100, r.Percent)
	assert.ErrorIs(t, second(tenant.RetryRotation(ctx, r.ID)), client.ErrConflict)
	history, err := tenant.Rotations(ctx, client.Page{})
	require.NoError(t, err)
	assert.Equal(t, []string{r.ID}, history)
	key, err := tenant.Key(ctx)
	require.NoError(t, err)
	assert.Equal(t, 2, key.CurrentVersion)
	require.Len(t, key.Versions, 2)
	assert.NotNil(t, key.Versions[0].DeactivatedAt)
	version, err := application.CurrentVersion(ctx)
	require.NoError(t, err)
	assert.Equal(t, 2, version)

	status, err := root.Status(ctx)
	require.NoError(t, err)
	assert.Positive(t, status.Tenants)
	config, err := root.Config(ctx)
	require.NoError(t, err)
	again, err := root.Configure(ctx, client.ConfigChange{SchedulerJitter: &config.SchedulerJitter})
	require.NoError(t, err)
	assert.Equal(t, config, again)
	assert.Equal(t, client.Duration(time.Hour), config.DataKeyLease)
	settings, err := root.RotationSettings(ctx)
	require.NoError(t, err)
	assert.Contains(t, settings.ValidRotationIntervals, settings.RotationInterval)
	kek, err := root.KEK(ctx)
	require.NoError(t, err)
	assert.NotEmpty(t, kek.ID)

	assert.ErrorIs(t, second(application.Key(ctx)), client.ErrForbidden)
	_, err = tenant.Rotate(ctx, client.RotationRequest{KeyType: "rot13"})
	var answered *client.Error
	require.True(t, errors.As(err, &answered))
	assert.Equal(t, http.StatusBadRequest, answered.Status)
	assert.Contains(t, answered.Message, "key_type must be")

	week := 7 * 24 * time.Hour
	require.NoError(t, tenant.Delete(ctx, &week))
	info, err = tenant.Restore(ctx)
	require.NoError(t, err)
	assert.Equal(t, "active", info.State)
}

// The attempts of one call that starts a rotation start one: the connection breaks
// behind Vault, when the rotation has begun.
func TestClientRotatesOnce(t *testing.T) {
	s := shared(t)
	config := api.DefaultConfig()
	config.Address = s.VaultAddr()
	config.HttpClient = &http.Client{Transport: &breakingOnce{next: http.DefaultTransport}}
	vault, err := api.NewClient(config)
	require.NoError(t, err)
	vault.ClearNamespace()
	vault.SetToken(s.RootToken())
	c, err := client.New(vault)
	require.NoError(t, err)
	tenant, err := c.Tenant(newTenant(t, s))
	require.NoError(t, err)
	r, err := tenant.Rotate(t.Context(), client.RotationRequest{})
	require.NoError(t, err)
	history, err := tenant.Rotations(t.Context(), client.Page{})
	require.NoError(t, err)
	assert.Equal(t, []string{r.ID}, history)
}

// breakingOnce loses the first answer.
type breakingOnce struct {
	next http.RoundTripper
	lost bool
}

func (b *breakingOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil || b.lost {
		return resp, err
	}
	b.lost = true
	_ = resp.Body.Close()
	return nil, io.ErrUnexpectedEOF
}

func second[T any](_ T, err error) error { return err }
