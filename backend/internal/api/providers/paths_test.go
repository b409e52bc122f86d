// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providers_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

const path = "providers/" + enginetest.ProviderName

func TestProviderIsWrittenReadListedAndDeleted(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Refused(404, "not found", enginetest.Read, path, nil)
		m.Refused(404, "not found", enginetest.Delete, path, nil)
		m.Refused(404, "not found", enginetest.Update, path+"/check", nil)
		m.Provide(nil)
		got := m.Must(enginetest.Read, path, nil)
		require.Equal(t, "transit", got["type"])
		require.Equal(t, map[string]any{
			"address": "https://owner.example", "token": provider.Configured, "key_name": "dek",
		}, got["parameters"])
		require.Equal(t, []any{int64(60), int64(0), int64(2), true, "ok", 0},
			[]any{got["lease"], got["grace"], got["timeout"], got["mount"], got["state"], got["in_use"]})
		require.NotNil(t, got["checked_at"], "the write has tried it")

		// Only the fields that are named change, and a credential is kept.
		m.Must(enginetest.Update, path, map[string]any{"lease": 120, "grace": "1h"})
		m.Must(enginetest.Update, path, map[string]any{"parameters": map[string]any{
			"address": "https://owner.example", "token": provider.Configured, "key_name": "other",
		}})
		got = m.Must(enginetest.Read, path, nil)
		require.Equal(t, []any{int64(120), int64(3600), true}, []any{got["lease"], got["grace"], got["mount"]})
		require.Equal(t, "other", got["parameters"].(map[string]any)["key_name"])
		require.Equal(t, []string{enginetest.ProviderName}, m.Must(enginetest.List, "providers", nil)["keys"])
		require.Equal(t, map[string]any{enginetest.ProviderName: "ok"}, m.Must(enginetest.Read, "status", nil)["providers"])

		m.Must(enginetest.Delete, path, nil)
		m.Refused(404, "not found", enginetest.Read, path, nil)
	})
}

// The vault command sends parameters=@owner.json as the text of the file.
func TestParametersComeAsText(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, path, enginetest.ProviderBody(map[string]any{
			"parameters": `{"address": "https://owner.example", "token": "` + providertest.Token + `", "key_name": "dek"}` + "\n",
		}))
		require.Equal(t, map[string]any{
			"address": "https://owner.example", "token": provider.Configured, "key_name": "dek",
		}, m.Must(enginetest.Read, path, nil)["parameters"])
		for rule, text := range map[string]string{
			"parameters must be an object;":           `{"address": "https://a"`,
			"parameters must be an object; the vault": `null`,
			"parameters must be an object of strings": `{"address": 1}`,
		} {
			m.Refused(400, rule, enginetest.Update, path, map[string]any{"parameters": text})
		}
	})
}

// A provider that does not work is not written, and what there is stays.
func TestProviderIsTriedBeforeItIsWritten(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Transit.Set(providertest.Denies)
		m.Refused(400, "permission denied", enginetest.Update, path, enginetest.ProviderBody(nil))
		m.Refused(404, "", enginetest.Read, path, nil)
		m.Transit.Set(providertest.Works)
		m.Provide(nil)
		m.Transit.Set(providertest.Sealed)
		m.Refused(400, "Vault is sealed", enginetest.Update, path, map[string]any{"lease": "2m"})
		m.Transit.Set(providertest.Lies)
		m.Refused(400, "not what was wrapped", enginetest.Update, path, map[string]any{"lease": "2m"})
		require.EqualValues(t, 60, m.Must(enginetest.Read, path, nil)["lease"])

		got := m.Must(enginetest.Update, path+"/check", nil)
		require.Equal(t, "unavailable", got["state"])
		require.Contains(t, got["last_error"], "not what was wrapped")
		m.Transit.Set(providertest.Denies)
		enginetest.Advance(time.Second)
		got = m.Must(enginetest.Update, path+"/check", nil)
		require.Equal(t, "denied", got["state"])
		require.NotNil(t, got["since"])
		require.Equal(t, map[string]any{enginetest.ProviderName: "denied"}, m.Must(enginetest.Read, "status", nil)["providers"])
		m.Transit.Set(providertest.Works)
		require.Equal(t, "ok", m.Must(enginetest.Update, path+"/check", nil)["state"])
	})
}

// A check opens a KEK that the provider protects, too: a key that was made anew under the
// name of one that was deleted wraps and unwraps, and opens nothing.
func TestCheckOpensWhatIsInUse(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Provide(nil)
		m.MoveKEK(enginetest.ProviderName)
		require.Equal(t, "ok", m.Must(enginetest.Update, path+"/check", nil)["state"])
		m.Transit.Renew()
		got := m.Must(enginetest.Update, path+"/check", nil)
		require.Equal(t, "unavailable", got["state"])
		require.Contains(t, got["last_error"], "message authentication failed")
	})
}

func TestProviderFieldsThatAreRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		for rule, more := range map[string]map[string]any{
			"type must be one of awskms, azurekeyvault, gcpckms, kmsv2, transit": {"type": "shamir"},
			"lease must be from 10s to 24h0m0s":                                  {"lease": "9s"},
			"grace must be from 0s to 24h0m0s":                                   {"grace": "25h"},
			"timeout must be from 1s to 1m0s":                                    {"timeout": 0},
			"lease must be a duration":                                           {"lease": "soon"},
			"timeout must be a duration":                                         {"timeout": ""},
			"mount must be true or false":                                        {"mount": "perhaps"},
			"tenants must be UUIDs":                                              {"tenants": []any{"*", enginetest.TenantID}},
			"each once":                                                          {"tenants": []any{enginetest.TenantID, enginetest.TenantID}},
			"canonical lower case":                                               {"tenants": strings.ToUpper(enginetest.TenantID)},
			"tenants must be a list":                                             {"tenants": []any{1}},
			"tenants must have at most":                                          {"tenants": slices.Repeat([]any{enginetest.TenantID}, 5001)},
			"socket is for type kmsv2":                                           {"socket": "/run/kms.sock"},
			"-provider-sockets":                                                  {"type": "kmsv2", "socket": "/run/kms.sock", "parameters": map[string]any{}},
			"parameters must be an object of strings":                            {"parameters": map[string]any{"address": 1}},
			"token is missing in parameters":                                     {"parameters": map[string]any{"address": "https://a"}},
			"token must be given":                                                {"parameters": map[string]any{"address": "https://a", "token": provider.Configured}},
		} {
			m.Refused(400, rule, enginetest.Update, path, enginetest.ProviderBody(more))
		}
		for _, name := range []string{"UPPER", "-a", "a_b", strings.Repeat("a", 65), "a..b"} {
			m.Refused(400, "name must be", enginetest.Update, "providers/"+name, enginetest.ProviderBody(nil))
		}
		require.EqualValues(t, 0, m.Transit.Calls(), "none of them reached a provider")
	})
}

// With such a lease two KEKs may never be open at once. It is allowed, since most calls are
// faster than their timeout, and whoever sets it is told.
func TestProviderWithALeaseTooShortForMovesWarns(t *testing.T) {
	for name, test := range map[string]struct{ lease, timeout, want string }{
		"just over twice the timeout": {"11s", "5s", ""},
		"default timeout":             {"10s", "5s", "timeout (5s) is half of lease (10s) or more"},
		"longer timeout":              {"59s", "1m", "timeout (1m0s) is half of lease (59s) or more"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InFakeTime(t, func(m *enginetest.Mount) {
				warned := func(op logical.Operation, body map[string]any) string {
					resp, err := m.Call(op, path, body)
					require.NoError(t, err)
					return strings.Join(resp.Warnings, "\n")
				}
				times := map[string]any{"lease": test.lease, "timeout": test.timeout}
				for _, body := range []map[string]any{enginetest.ProviderBody(times), {"grace": "1h"}} {
					warning := warned(logical.UpdateOperation, body)
					require.Equal(t, test.want == "", warning == "", warning)
					require.Contains(t, warning, test.want)
				}
				require.Empty(t, warned(logical.ReadOperation, nil), "a read does not repeat it")
			})
		})
	}
}

func TestProviderInUseStays(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Provide(nil)
		m.MoveKEK(enginetest.ProviderName)
		require.Equal(t, 1, m.Must(enginetest.Read, path, nil)["in_use"])
		m.Refused(409, "kek/rotate", enginetest.Delete, path, nil)

		// Settings under which it does not open what it protects are refused.
		m.Transit.Set(providertest.OtherKey)
		m.Refused(400, "nothing has changed", enginetest.Update, path, map[string]any{"lease": "2m"})
		m.Transit.Set(providertest.Works)
		m.MoveKEK("")
		m.Must(enginetest.Delete, path, nil)
	})
}

// A provider whose entry cannot be read is unavailable until it is written anew, and lists
// and status go on.
func TestDamagedProviderIsWrittenAnew(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("1"))
		m.Provide(nil)
		m.MoveKEK(enginetest.ProviderName)
		m.Disk.Set(path, []byte("{"))
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		m.DropPages()
		m.Refused(503, "write them anew", enginetest.Read, enginetest.ItemPath("a"), nil)
		m.Must(enginetest.List, "providers", nil)
		m.Must(enginetest.Read, "status", nil)
		m.Refused(400, "token must be given", enginetest.Update, path, enginetest.ProviderBody(map[string]any{
			"parameters": map[string]any{"address": "https://owner.example", "token": provider.Configured, "key_name": "dek"},
		}))
		m.Provide(nil)
		enginetest.Advance(11 * time.Second)
		m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)
	})
}
