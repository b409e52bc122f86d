// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package externalsecrets

import (
	"context"
	"net/http"
	"strings"
	"testing"

	esv1 "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	"github.com/external-secrets/external-secrets/apis/externalsecrets/v1alpha1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
)

// A call is one of the provider's, at either mount.
type call func(context.Context, esv1.SecretsClient) (any, error)

// pushed is the Kubernetes Secret that PushSecret is given.
var pushed = &corev1.Secret{Data: map[string][]byte{
	"user": []byte("app"), "password": []byte("p<&>"),
	"tree":    []byte(`{"db": {"host": "db.example.com", "port": 5432}, "tags": ["a", "b"]}`),
	"another": []byte("another"),
}}

// ref names an item of the tenant, or a property of it, for PushSecret and DeleteSecret.
func ref(key, secretKey, property string) v1alpha1.PushSecretData {
	return v1alpha1.PushSecretData{Match: v1alpha1.PushSecretMatch{
		SecretKey: secretKey, RemoteRef: v1alpha1.PushSecretRemoteRef{RemoteKey: key, Property: property},
	}}
}

func push(key, secretKey, property string) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		return nil, c.PushSecret(ctx, pushed, ref(key, secretKey, property))
	}
}

func remove(key, property string) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		return nil, c.DeleteSecret(ctx, ref(key, "", property))
	}
}

func exists(key, property string) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		return c.SecretExists(ctx, ref(key, "", property))
	}
}

func get(r esv1.ExternalSecretDataRemoteRef) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		value, err := c.GetSecret(ctx, r)
		return string(value), err
	}
}

func getMap(r esv1.ExternalSecretDataRemoteRef) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		values, err := c.GetSecretMap(ctx, r)
		return texts(values), err
	}
}

func find(f esv1.ExternalSecretFind) call {
	return func(ctx context.Context, c esv1.SecretsClient) (any, error) {
		values, err := c.GetAllSecrets(ctx, f)
		return texts(values), err
	}
}

func validate(_ context.Context, c esv1.SecretsClient) (any, error) {
	result, err := c.Validate()
	return result.String(), err
}

// texts makes a difference of two answers readable.
func texts(values map[string][]byte) map[string]string {
	t := make(map[string]string, len(values))
	for name, value := range values {
		t[name] = string(value)
	}
	return t
}

// step is a call, what it answers at both mounts, and what its error says, if it is one.
type step struct {
	name  string
	call  call
	want  any
	error string
}

// run makes the calls at both mounts, one after the other.
func (m mounts) run(t *testing.T, theirs, ours esv1.SecretsClient, steps []step) {
	t.Helper()
	for _, s := range steps {
		message := map[string]string{}
		for mount, c := range map[string]esv1.SecretsClient{m.theirs: theirs, m.ours: ours} {
			got, err := s.call(t.Context(), c)
			if s.error == "" {
				require.NoError(t, err, "%s at %s", s.name, mount)
				assert.Equal(t, s.want, got, "%s at %s", s.name, mount)
				continue
			}
			require.ErrorContains(t, err, s.error, "%s at %s", s.name, mount)
			message[mount] = strings.ReplaceAll(err.Error(), "/"+mount+"/", "/MOUNT/")
		}
		assert.Equal(t, message[m.theirs], message[m.ours], s.name)
	}
}

// TestExternalSecretsProvider makes the calls that ExternalSecret and PushSecret resources
// make, and compares the answers of the engine with those of KV version 2.
func TestExternalSecretsProvider(t *testing.T) {
	pinned, err := compatibility.RequiredBy("test/externalsecrets", "github.com/external-secrets/external-secrets")
	require.NoError(t, err)
	compatibility.Ran(t, "External Secrets Operator", pinned, true)
	m := newMounts(t)
	theirs, ours := m.open(t, m.store(m.theirs)), m.open(t, m.store(m.ours))
	folder := m.tenant + "/secrets"
	app, tree, foreign := folder+"/team/app", folder+"/tree", folder+"/foreign"
	m.write(t, "data/"+foreign, map[string]any{"data": map[string]any{"a": "1"}})
	m.write(t, "metadata/"+foreign, map[string]any{"custom_metadata": map[string]string{"owner": "billing"}})
	nothing := esv1.NoSecretErr.Error()
	whole := `{"another":"another","password":"p<&>","tree":"{\"db\": {\"host\": \"db.example.com\", \"port\": 5432}, \"tags\": [\"a\", \"b\"]}","user":"app"}`
	whole = strings.NewReplacer("<", `\u003c`, "&", `\u0026`, ">", `\u003e`).Replace(whole)
	branches := `{"db":{"host":"db.example.com","port":5432},"tags":["a","b"]}`
	managed := map[string]string{"managed-by": "external-secrets"}
	find := func(folder, name string, tags map[string]string) call {
		f := esv1.ExternalSecretFind{Path: &folder, Tags: tags}
		if name != "" {
			f.Name = &esv1.FindName{RegExp: name}
		}
		return find(f)
	}
	of := func(key, property string) esv1.ExternalSecretDataRemoteRef {
		return esv1.ExternalSecretDataRemoteRef{Key: key, Property: property}
	}
	version := func(v string) esv1.ExternalSecretDataRemoteRef {
		return esv1.ExternalSecretDataRemoteRef{Key: tree, Version: v}
	}
	metadata := func(key, property string) esv1.ExternalSecretDataRemoteRef {
		return esv1.ExternalSecretDataRemoteRef{Key: key, Property: property, MetadataPolicy: esv1.ExternalSecretMetadataPolicyFetch}
	}

	m.run(t, theirs, ours, []step{
		{"validate", validate, "Ready", ""},
		{"what is not there exists", exists(app, ""), false, ""},
		{"get what is not there", get(of(app, "")), nil, nothing},
		{"metadata of what is not there", get(metadata(app, "")), nil, "secret not found"},
		{"find in a folder that is not there", find(folder+"/none", ".*", nil), nil, nothing},

		{"push a whole Secret", push(app, "", ""), nil, ""},
		{"push it again", push(app, "", ""), nil, ""},
		{"push a tree", push(tree, "tree", ""), nil, ""},
		{"it exists", exists(app, ""), true, ""},
		{"its property exists", exists(app, "password"), true, ""},
		{"another does not", exists(app, "none"), false, ""},

		{"get", get(of(app, "")), whole, ""},
		{"get a tree", get(of(tree, "")), branches, ""},
		{"get a property", get(of(app, "password")), "p<&>", ""},
		{"get a property below", get(of(tree, "db.host")), "db.example.com", ""},
		{"get a number", get(of(tree, "db.port")), "5432", ""},
		{"get an element", get(of(tree, "tags.1")), "b", ""},
		{"get a property that is not there", get(of(tree, "none")), nil, `cannot find secret data for key: "none"`},
		{"get the map", getMap(of(tree, "")), map[string]string{"db": `{"host":"db.example.com","port":5432}`, "tags": `["a","b"]`}, ""},
		{"get the map of a property", getMap(of(tree, "db")), map[string]string{"host": "db.example.com", "port": "5432"}, ""},
		{"get the version", get(version("1")), branches, ""},
		{"get a version that is not there", get(version("7")), nil, nothing},
		{"get metadata", get(metadata(foreign, "")), `{"owner":"billing"}`, ""},
		{"get metadata of what was pushed", get(metadata(app, "managed-by")), "external-secrets", ""},

		{"find all", find(folder, ".*", nil), map[string]string{app: whole, tree: branches, foreign: `{"a":"1"}`}, ""},
		{"find by name", find(folder, "(app|none)$", nil), map[string]string{app: whole}, ""},
		{"find in a folder", find(folder+"/team", ".*", nil), map[string]string{app: whole}, ""},
		{"find by tags", find(folder, "", managed), map[string]string{app: whole, tree: branches}, ""},
		{"find by other tags", find(folder, "", map[string]string{"owner": "billing"}), map[string]string{foreign: `{"a":"1"}`}, ""},

		{"push a property", push(tree, "another", "added"), nil, ""},
		{"push it again", push(tree, "another", "added"), nil, ""},
		{"get it", get(of(tree, "added")), "another", ""},
		{"get the next version", get(version("2")), strings.Replace(branches, "{", `{"added":"another",`, 1), ""},
		{"push over a property that is no text", push(tree, "another", "db"), nil, "error converting db to string"},
		{"push to what others manage", push(foreign, "", ""), nil, "secret not managed by external-secrets"},

		{"delete a property", remove(tree, "added"), nil, ""},
		{"get what is left", get(of(tree, "")), branches, ""},
		{"delete what others manage", remove(foreign, ""), nil, ""},
		{"it is still there", exists(foreign, ""), true, ""},
		{"delete", remove(tree, ""), nil, ""},
		{"it is gone", get(of(tree, "")), nil, nothing},
		{"delete it again", remove(tree, ""), nil, ""},
		{"find what is left", find(folder, "", managed), map[string]string{app: whole}, ""},
		{"push it anew", push(tree, "tree", ""), nil, ""},
		{"it has the first version", get(version("1")), branches, ""},
	})

	casTheirs, casOurs := m.store(m.theirs), m.store(m.ours)
	for _, store := range []*esv1.SecretStore{casTheirs, casOurs} {
		store.Spec.Provider.Vault.CheckAndSet = &esv1.VaultCheckAndSet{Required: true}
	}
	m.run(t, m.open(t, casTheirs), m.open(t, casOurs), []step{
		{"push with check-and-set what is not there", push(folder+"/cas", "tree", ""), nil, ""},
		{"push with check-and-set what is there", push(folder+"/cas", "another", "added"), nil, ""},
		{"get it", get(of(folder+"/cas", "added")), "another", ""},
		{"delete it", remove(folder+"/cas", ""), nil, ""},
	})

	_, err = m.vault.Logical().WriteWithContext(t.Context(), m.ours+"/tenants/"+m.tenant+"/dek/rotate", nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		item, err := m.vault.Logical().ReadWithContext(t.Context(), m.ours+"/tenants/"+m.tenant+"/"+strings.TrimPrefix(app, m.tenant+"/"))
		return err == nil && item != nil && item.Data["key_version"].(interface{ String() string }).String() == "2"
	}, upLimit, tick)
	m.run(t, theirs, ours, []step{{"get after the key was rotated", get(of(app, "")), whole, ""}})

	m.revoke(t)
	m.run(t, theirs, ours, []step{
		{"get with a token that was revoked", get(of(app, "")), nil, "permission denied"},
		{"validate it", validate, nil, "permission denied"},
	})
}

// TestExternalSecretsFindWithoutAPath is the difference that docs/kv.md lists: a list
// begins at a kind, so a find without a path has nothing to begin with.
func TestExternalSecretsFindWithoutAPath(t *testing.T) {
	m := newMounts(t)
	m.token = m.vault.Token() // for the list of the whole mount
	key := m.tenant + "/secrets/x"
	m.write(t, "data/"+key, map[string]any{"data": map[string]any{"a": "1"}})
	all := find(esv1.ExternalSecretFind{Name: &esv1.FindName{RegExp: ".*"}})
	got, err := all(t.Context(), m.open(t, m.store(m.theirs)))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{key: `{"a":"1"}`}, got)
	_, err = all(t.Context(), m.open(t, m.store(m.ours)))
	require.ErrorIs(t, err, esv1.NoSecretErr)
	assert.Equal(t, http.StatusNotFound, m.raw(t, m.ours+"/metadata/?list=true"))
}
