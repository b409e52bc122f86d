// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// setup writes to Vault what resources of the official provider write: their arguments
// have the names of the API's fields.
type setup struct {
	t     *testing.T
	vault *api.Client
}

func (s *setup) apply(kind string, attributes map[string]cty.Value) map[string]cty.Value {
	s.t.Helper()
	a := plain(s.t, attributes)
	switch kind {
	case "vault_plugin":
		entry := s.read("sys/plugins/catalog/secret/"+a["name"].(string), "version", a["version"].(string))
		for _, field := range []string{"name", "command", "sha256", "version"} {
			require.Equal(s.t, entry[field], a[field], "bootstrap.sh has registered it")
		}
	case "vault_mount":
		s.write("sys/mounts/"+a["path"].(string), map[string]any{"type": a["type"], "description": a["description"], "config": map[string]any{
			"plugin_version": a["plugin_version"], "allowed_response_headers": a["allowed_response_headers"],
		}})
	case "vault_jwt_auth_backend":
		s.write("sys/auth/"+a["path"].(string), map[string]any{"type": "jwt", "description": a["description"]})
		s.write("auth/"+a["path"].(string)+"/config", without(a, "path", "description"))
		return map[string]cty.Value{"accessor": cty.StringVal(s.read("sys/auth/" + a["path"].(string))["accessor"].(string))}
	case "vault_jwt_auth_backend_role":
		s.write("auth/"+a["backend"].(string)+"/role/"+a["role_name"].(string), without(a, "backend", "role_name"))
	case "vault_policy":
		s.write("sys/policies/acl/"+a["name"].(string), map[string]any{"policy": a["policy"]})
	case "vault_identity_group":
		s.write("identity/group", a)
		return map[string]cty.Value{"id": cty.StringVal(s.read("identity/group/name/" + a["name"].(string))["id"].(string))}
	case "vault_identity_group_alias":
		s.write("identity/group-alias", a)
	default:
		s.t.Fatal("the example has a resource that this test does not know: " + kind)
	}
	return nil
}

// plain is attributes as JSON has them, without those that are null.
func plain(t *testing.T, attributes map[string]cty.Value) map[string]any {
	t.Helper()
	out := map[string]any{}
	for name, value := range attributes {
		if value.IsNull() {
			continue
		}
		text, err := ctyjson.Marshal(value, value.Type())
		require.NoError(t, err)
		var v any
		require.NoError(t, json.Unmarshal(text, &v))
		out[name] = v
	}
	return out
}

func without(a map[string]any, names ...string) map[string]any {
	a = maps.Clone(a)
	maps.DeleteFunc(a, func(name string, _ any) bool { return slices.Contains(names, name) })
	return a
}

func (s *setup) write(path string, data map[string]any) {
	s.t.Helper()
	_, err := s.vault.Logical().WriteWithContext(s.t.Context(), path, data)
	require.NoError(s.t, err, path)
}

func (s *setup) read(path string, query ...string) map[string]any {
	s.t.Helper()
	params := map[string][]string{}
	for i := 0; i+1 < len(query); i += 2 {
		params[query[i]] = []string{query[i+1]}
	}
	secret, err := s.vault.Logical().ReadWithDataWithContext(s.t.Context(), path, params)
	require.NoError(s.t, err, path)
	require.NotNil(s.t, secret, path)
	return secret.Data
}

func (s *setup) list(path string) (keys []string) {
	s.t.Helper()
	secret, err := s.vault.Logical().ListWithContext(s.t.Context(), path)
	require.NoError(s.t, err, path)
	for _, key := range secret.Data["keys"].([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}

// The example with the official provider sets up what bootstrap.sh does: read back, both
// are equal but for names, identifiers and the marks by which the script knows its own.
func TestVaultExampleEqualsBootstrap(t *testing.T) {
	e := newEngine(t) // starts the shared stack
	s := &setup{t, e.vault}
	mount := s.read("sys/mounts/" + devstack.Mount)
	version, _ := mount["plugin_version"].(string)
	catalog := s.read("sys/plugins/catalog/secret/vault-plugin-dek", "version", version)
	config := s.read("auth/" + devstack.JWTMount + "/config")
	var keys []cty.Value
	for _, key := range config["jwt_validation_pubkeys"].([]any) {
		keys = append(keys, cty.StringVal(key.(string)))
	}
	roles := s.list("sys/policies/acl")
	roles = slices.DeleteFunc(roles, func(name string) bool { return !strings.Contains(s.policy(name), "Made by bootstrap.sh") })
	require.Len(t, roles, 8)
	var named []cty.Value
	for _, role := range roles {
		named = append(named, cty.StringVal(role))
	}
	text := func(v any) cty.Value { return cty.StringVal(v.(string)) }
	(&example{t: t, dir: "../../examples/vault", apply: s.apply}).carryOut(map[string]cty.Value{
		"plugin_command": text(catalog["command"]), "plugin_sha256": text(catalog["sha256"]), "plugin_version": text(version),
		"mount": cty.StringVal("example"), "jwt_mount": cty.StringVal("example"), "name_prefix": cty.StringVal("example-"),
		"jwt_issuer": text(config["bound_issuer"]), "jwt_validation_pubkeys": cty.ListVal(keys), "roles": cty.SetVal(named),
	})
	t.Cleanup(func() {
		require.NoError(t, s.vault.Sys().Unmount("example"))
		require.NoError(t, s.vault.Sys().DisableAuth("example"))
		for _, role := range roles {
			_, err := s.vault.Logical().Delete("identity/group/name/example-" + role)
			require.NoError(t, err)
			require.NoError(t, s.vault.Sys().DeletePolicy("example-"+role))
		}
	})

	require.Equal(t, s.read("sys/mounts/"+devstack.Mount+"/tune"), s.read("sys/mounts/example/tune"))
	own := []string{"accessor", "uuid", "running_sha256", "options"}
	require.Empty(t, mount["options"])
	require.Empty(t, s.read("sys/mounts/example")["options"])
	require.Equal(t, without(mount, own...), without(s.read("sys/mounts/example"), own...))
	require.Equal(t, config, s.read("auth/example/config"))
	require.Equal(t, without(s.read("sys/auth/"+devstack.JWTMount+"/tune"), "description"), without(s.read("sys/auth/example/tune"), "description"))
	s.equalLogins()
	s.equalRoles(roles)
}

func (s *setup) policy(name string) string {
	policy, _ := s.read("sys/policies/acl/" + name)["policy"].(string)
	return policy
}

func (s *setup) equalLogins() {
	s.t.Helper()
	logins := s.list("auth/" + devstack.JWTMount + "/role")
	require.Equal(s.t, []string{"dek", "dek-application", "dek-key_importer", "dek-security_admin"}, logins)
	require.Equal(s.t, logins, s.list("auth/example/role"))
	for _, login := range logins {
		want, got := s.read("auth/"+devstack.JWTMount+"/role/"+login), s.read("auth/example/role/"+login)
		for _, policies := range []string{"token_policies", "policies"} { // the second is the older name
			if all, ok := got[policies].([]any); ok {
				for i := range all {
					all[i] = strings.TrimPrefix(all[i].(string), "example-")
				}
			}
		}
		require.Equal(s.t, want, got, login)
	}
}

func (s *setup) equalRoles(roles []string) {
	s.t.Helper()
	accessor := func(path string) string { return s.read("sys/auth/" + path)["accessor"].(string) }
	names := strings.NewReplacer("\"example/", "\""+devstack.Mount+"/", accessor("example"), accessor(devstack.JWTMount))
	for _, role := range roles {
		_, want, _ := strings.Cut(s.policy(role), "\n") // after the script's mark
		require.Equal(s.t, want, names.Replace(s.policy("example-"+role)), role)

		wanted, got := s.read("identity/group/name/"+role), s.read("identity/group/name/example-"+role)
		require.Equal(s.t, []any{"external", []any{role}}, []any{wanted["type"], wanted["policies"]})
		require.Equal(s.t, []any{"external", []any{"example-" + role}}, []any{got["type"], got["policies"]})
		wantedAlias, alias := wanted["alias"].(map[string]any), got["alias"].(map[string]any)
		require.Equal(s.t, []any{role, role}, []any{wantedAlias["name"], alias["name"]})
		require.Equal(s.t, accessor("example"), alias["mount_accessor"])
	}
}
