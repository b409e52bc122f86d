// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each typed call: what it sends, and how often when the answer is a fault.
func TestCalls(t *testing.T) {
	const item = "/v1/dek/tenants/" + tenantID + "/credentials/db/main"
	const dek = "/v1/dek/tenants/" + tenantID + "/dek"
	const holder = "/v1/dek/tenants/" + tenantID + "/holders"
	calls := []struct {
		name, method, path, query string
		body                      string
		repeated                  bool
		do                        func(context.Context, *Client, *Tenant) error
	}{
		{"list tenants", "GET", "/v1/dek/tenants", "after=a&limit=2&list=true", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.Tenants(ctx, Page{After: "a", Limit: 2}))
		}},
		{"write tenant", "PUT", "/v1/dek/tenants/" + tenantID, "", `{"display_name":"Example","must_exist":true}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Write(ctx, TenantSettings{DisplayName: new("Example"), MustExist: true}))
		}},
		{"read tenant", "GET", "/v1/dek/tenants/" + tenantID, "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.Read(ctx)) }},
		{"delete tenant", "DELETE", "/v1/dek/tenants/" + tenantID, "deletion_window=1h0m0s", ``, false, func(ctx context.Context, _ *Client, t *Tenant) error {
			return t.Delete(ctx, new(time.Hour))
		}},
		{"restore tenant", "PUT", "/v1/dek/tenants/" + tenantID + "/restore", "", ``, false, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.Restore(ctx)) }},
		{"list items", "GET", "/v1/dek/tenants/" + tenantID + "/secrets", "list=true", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Items(ctx, Secrets, Page{}))
		}},
		{"list readable items", "GET", "/v1/dek/tenants/" + tenantID + "/secrets", "limit=2&list=true&partial=true", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			_, _, err := t.ReadableItems(ctx, Secrets, Page{Limit: 2})
			return err
		}},
		{"read item", "GET", item, "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.ReadItem(ctx, Credentials, "db/main"))
		}},
		{"write item", "PUT", item, "", `{"data":{"a":"b"},"metadata":{"c":"d"},"cas":0}`, false, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.WriteItem(ctx, Credentials, "db/main", ItemWrite{
				Data: map[string]any{"a": "b"}, Metadata: map[string]string{"c": "d"}, CAS: new(0),
			}))
		}},
		{"patch item", "PATCH", item, "", `{"data":{"a":null}}`, false, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.PatchItem(ctx, Credentials, "db/main", ItemPatch{Data: map[string]any{"a": nil}}))
		}},
		{"delete item", "DELETE", item, "cas=3", ``, false, func(ctx context.Context, _ *Client, t *Tenant) error {
			return t.DeleteItem(ctx, Credentials, "db/main", new(3))
		}},
		{"write items", "PUT", "/v1/dek/tenants/" + tenantID + "/items", "", `{"items":[{"kind":"secrets","name":"a","data":{}}]}`, false, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.WriteItems(ctx, []BulkItem{{Kind: Secrets, Name: "a", ItemWrite: ItemWrite{Data: map[string]any{}}}}))
		}},
		{"read key", "GET", dek, "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.Key(ctx)) }},
		{"current version", "GET", dek + "/current", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.CurrentVersion(ctx)) }},
		{"minimum", "PUT", dek + "/config", "", `{"min_decryption_version":2}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.SetMinDecryptionVersion(ctx, 2))
		}},
		{"list holders", "GET", holder, "limit=2&list=true", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Holders(ctx, Page{Limit: 2}))
		}},
		{"read holder", "GET", holder + "/orders/card", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.Holder(ctx, "orders/card")) }},
		{"write holder", "PUT", holder + "/orders", "", `{"description":"a table","backups_kept":86400}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.WriteHolder(ctx, "orders", HolderSettings{Description: new("a table"), BackupsKept: new(Duration(24 * time.Hour))}))
		}},
		{"delete holder", "DELETE", holder + "/orders", "", ``, false, func(ctx context.Context, _ *Client, t *Tenant) error { return t.DeleteHolder(ctx, "orders") }},
		{"start scan", "PUT", holder + "/orders/report/start", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.StartScan(ctx, "orders")) }},
		{"report", "PUT", holder + "/orders/report", "", `{"oldest_version":2,"counts":{"2":7},"scan_started_at":"2026-01-02T03:04:05.000006Z"}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Report(ctx, "orders", HolderReport{
				OldestVersion: 2, Counts: map[int]int64{2: 7}, ScanStartedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
			}))
		}},
		{"follow holders", "PUT", dek + "/config", "", `{"follow_holders":true}`, true, func(ctx context.Context, _ *Client, t *Tenant) error { return t.FollowHolders(ctx, true) }},
		{"destroy", "PUT", dek + "/versions/2/destroy", "", `{"force":true}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.DestroyVersion(ctx, 2, true))
		}},
		{"list rotations", "GET", dek + "/rotations", "list=true", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.Rotations(ctx, Page{})) }},
		{"read rotation", "GET", dek + "/rotations/" + rotationID, "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Rotation(ctx, rotationID))
		}},
		{"pause", "PUT", dek + "/rotations/" + rotationID + "/pause", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.PauseRotation(ctx, rotationID))
		}},
		{"resume", "PUT", dek + "/rotations/" + rotationID + "/resume", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.ResumeRotation(ctx, rotationID))
		}},
		{"cancel", "PUT", dek + "/rotations/" + rotationID + "/cancel", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.CancelRotation(ctx, rotationID))
		}},
		{"retry", "PUT", dek + "/rotations/" + rotationID + "/retry", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.RetryRotation(ctx, rotationID))
		}},
		{"rotate", "PUT", dek + "/rotate", "", `{"reason":"leak","idempotency_key":"k"}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Rotate(ctx, RotationRequest{Reason: "leak", IdempotencyKey: "k"}))
		}},
		{"import", "PUT", dek + "/import", "", `{"ciphertext":"AA==","idempotency_key":"k"}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Import(ctx, ImportRequest{Ciphertext: "AA==", RotationRequest: RotationRequest{IdempotencyKey: "k"}}))
		}},
		{"encrypt", "PUT", "/v1/dek/tenants/" + tenantID + "/encrypt", "", `{"batch_input":[{"plaintext":"YQ=="}],"partial_failure_response_code":200}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.EncryptBatch(ctx, []Plaintext{{Plaintext: []byte("a")}}))
		}},
		{"data key", "PUT", "/v1/dek/tenants/" + tenantID + "/datakey/wrapped", "", `{"bits":512,"associated_data":"YQ=="}`, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.WrappedDataKey(ctx, DataKeyRequest{Bits: 512, AssociatedData: []byte("a")}))
		}},
		{"read config", "GET", "/v1/dek/config", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.Config(ctx)) }},
		{"write config", "PUT", "/v1/dek/config", "", `{"scheduler_jitter":3600}`, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.Configure(ctx, ConfigChange{SchedulerJitter: new(Duration(time.Hour))}))
		}},
		{"read settings", "GET", "/v1/dek/key/rotationSettings", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.RotationSettings(ctx)) }},
		{"write settings", "PUT", "/v1/dek/key/rotationSettings", "", `{"rotation_interval":"90_DAYS"}`, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.SetRotationInterval(ctx, "90_DAYS"))
		}},
		{"status", "GET", "/v1/dek/status", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.Status(ctx)) }},
		{"unfinished", "GET", "/v1/dek/rotations", "list=true", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.UnfinishedRotations(ctx, Page{}))
		}},
		{"rotate all", "PUT", "/v1/dek/rotations", "", `{"all":true,"reason":"leak"}`, false, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.RotateMany(ctx, ManyRotations{All: true, Reason: "leak"}))
		}},
		{"rotate some", "PUT", "/v1/dek/rotations", "", `{"tenants":["a"],"reason":"leak","include_paused":true}`, false, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.RotateMany(ctx, ManyRotations{Tenants: []string{"a"}, Reason: "leak", IncludePaused: true}))
		}},
		{"read KEK", "GET", "/v1/dek/kek", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.KEK(ctx)) }},
		{"list providers", "GET", "/v1/dek/providers", "list=true", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.Providers(ctx, Page{})) }},
		{"read provider", "GET", "/v1/dek/providers/owner", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.Provider(ctx, "owner")) }},
		{"write provider", "PUT", "/v1/dek/providers/owner", "", `{"lease":60}`, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			lease := Duration(time.Minute)
			return second(c.SetProvider(ctx, "owner", ProviderChange{Lease: &lease}))
		}},
		{"read tenant's KEK", "GET", "/v1/dek/tenants/" + tenantID + "/kek", "", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error { return second(t.KEK(ctx)) }},
		{"delete provider", "DELETE", "/v1/dek/providers/owner", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return c.DeleteProvider(ctx, "owner") }},
		{"check provider", "PUT", "/v1/dek/providers/owner/check", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.CheckProvider(ctx, "owner")) }},
		{"evidence key", "GET", "/v1/dek/evidence/key", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.EvidenceKey(ctx)) }},
		{"rotate evidence key", "PUT", "/v1/dek/evidence/key/rotate", "", `{"reason":"leak"}`, false, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.RotateEvidenceKey(ctx, "leak"))
		}},
		{"evidence checkpoint", "GET", "/v1/dek/evidence/checkpoint", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.EvidenceCheckpoint(ctx))
		}},
		{"evidence entries", "GET", "/v1/dek/evidence/entries", "after=7&limit=2&list=true", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.EvidenceEntries(ctx, Page{After: "7", Limit: 2}))
		}},
		{"evidence entry", "GET", "/v1/dek/evidence/entries/0", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.EvidenceEntry(ctx, 0, 0))
		}},
		{"tenant's evidence", "GET", "/v1/dek/tenants/" + tenantID + "/evidence", "list=true", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.Evidence(ctx, Page{}))
		}},
		{"tenant's evidence entry", "GET", "/v1/dek/tenants/" + tenantID + "/evidence/12", "size=40", ``, true, func(ctx context.Context, _ *Client, t *Tenant) error {
			return second(t.EvidenceEntry(ctx, 12, 40))
		}},
		{"evidence file", "GET", "/v1/dek/evidence/tlog/tile/entries/x001/234.p/17", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.EvidenceFile(ctx, "tile/entries/x001/234.p/17"))
		}},
		{"witnesses", "GET", "/v1/dek/evidence/witnesses", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.Witnesses(ctx)) }},
		{"no witnesses", "PUT", "/v1/dek/evidence/witnesses", "", `{"witnesses":[]}`, true, func(ctx context.Context, c *Client, _ *Tenant) error { return c.SetWitnesses(ctx, nil) }},
		{"cosign", "PUT", "/v1/dek/evidence/cosign", "", `{"cosignature":"— w x"}`, true, func(ctx context.Context, c *Client, _ *Tenant) error { return c.Cosign(ctx, "— w x") }},
		{"read person", "GET", "/v1/dek/evidence/people/alice@example.com", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.Person(ctx, "alice@example.com"))
		}},
		{"erase person", "DELETE", "/v1/dek/evidence/people/person-1", "", ``, false, func(ctx context.Context, c *Client, _ *Tenant) error { return c.ErasePerson(ctx, "person-1") }},
		{"check evidence", "PUT", "/v1/dek/evidence/check", "", `{"checkpoint":"c","entries":["YQ=="]}`, true, func(ctx context.Context, c *Client, _ *Tenant) error {
			return second(c.CheckEvidence(ctx, "c", [][]byte{[]byte("a")}))
		}},
		{"rotate wrapping key", "PUT", "/v1/dek/wrapping_key/rotate", "", ``, false, func(ctx context.Context, c *Client, _ *Tenant) error {
			_, _, err := c.RotateWrappingKey(ctx)
			return err
		}},
		{"wrapping key", "GET", "/v1/dek/wrapping_key", "", ``, true, func(ctx context.Context, c *Client, _ *Tenant) error { return second(c.WrappingKey(ctx)) }},
	}
	for _, tc := range calls {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := scripted(t, reply{status: 500, body: `{"errors":["fault"]}`}, reply{status: 200, body: `{"data":{"batch_results":[{}]}}`})
				err := tc.do(t.Context(), c, tenantOf(t, c))
				if tc.repeated {
					require.NoError(t, err)
					require.Len(t, s.seen, 2)
					assert.Equal(t, s.seen[0], s.seen[1], "the same request again")
				} else {
					require.Error(t, err)
					assert.True(t, OutcomeUnknown(err))
					require.Len(t, s.seen, 1)
				}
				got := s.seen[0]
				assert.Equal(t, []string{tc.method, tc.path, tc.query}, []string{got.method, got.path, got.query})
				if tc.body != "" {
					body, err := json.Marshal(got.body)
					require.NoError(t, err)
					assert.JSONEq(t, tc.body, string(body))
				}
			})
		})
	}
}

// Nothing that a caller passes leads to another path of the log.
func TestEvidencePathsAreChecked(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{}}`})
	for _, person := range []string{"", ".", "..", "../key", "a/b"} {
		require.ErrorIs(t, second(c.Person(t.Context(), person)), ErrPerson)
		require.ErrorIs(t, c.ErasePerson(t.Context(), person), ErrPerson)
	}
	for _, name := range []string{"", "tile", "tile/0", "../key", "tile/0/../../key", "tile/0/1", "checkpoint/", "tile/0/000.p/"} {
		require.ErrorIs(t, second(c.EvidenceFile(t.Context(), name)), ErrEvidenceFile, name)
	}
	require.Empty(t, s.seen)
}

// A log that went back is a conflict, whose data say what came back.
func TestCheckEvidenceTellsWhatCameBack(t *testing.T) {
	c, _ := scripted(t, reply{status: 409, body: `{"errors":["storage went back"],"data":{"consistent":false,"size":3,"missing":2,
		"keys":[{"tenant_id":null,"version":null,"key_id":"kek-1","which":"kek"}],"tenants":["` + tenantID + `"]}}`})
	_, err := c.CheckEvidence(t.Context(), "c", nil)
	require.ErrorIs(t, err, ErrConflict)
	var answered *Error
	require.ErrorAs(t, err, &answered)
	var back EvidenceCheck
	require.NoError(t, answered.Data(&back))
	assert.Equal(t, EvidenceCheck{Size: 3, Missing: 2, Keys: []BackKey{{KeyID: "kek-1", Which: "kek"}}, Tenants: []string{tenantID}}, back)
}

func TestErrorTellsWhatVaultSays(t *testing.T) {
	c, _ := scripted(t, reply{status: 409, body: fmt.Sprintf(
		`{"errors":["1 error occurred:\n\t* rotation %[1]s is unfinished\n\n"],"data":{"rotation_id":"%[1]s"}}`, rotationID)})
	_, err := tenantOf(t, c).Rotate(t.Context(), RotationRequest{})
	require.ErrorIs(t, err, ErrConflict)
	var answered *Error
	require.ErrorAs(t, err, &answered)
	assert.Equal(t, rotationID, answered.RotationID())
	assert.Equal(t, "rotate key: 409: rotation "+rotationID+" is unfinished", err.Error())
}

// An answer's warnings reach who asks for them, before the call returns.
func TestWarningsAreTold(t *testing.T) {
	const warned = `{"data":{"rotation_id":"` + rotationID + `"},"warnings":["evidence pending","another"]}`
	c, _ := scripted(t, reply{status: 200, body: warned}, reply{status: 200, body: warned})
	var told []string
	ctx := WithWarnings(t.Context(), func(w string) { told = append(told, w) })
	_, err := tenantOf(t, c).Rotate(ctx, RotationRequest{})
	require.NoError(t, err)
	assert.Equal(t, []string{"evidence pending", "another"}, told)

	_, err = tenantOf(t, c).Rotate(t.Context(), RotationRequest{}) // nobody asks
	require.NoError(t, err)
	assert.Len(t, told, 2)
}

// An item's name is in the URL, and no error repeats it.
func TestErrorHidesNames(t *testing.T) {
	for _, first := range []reply{{err: errors.New("reset")}, {status: 500}, {status: 200, body: "secret-name"}, {status: 200, body: `{"data":"secret-name"}`}} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := scripted(t, first)
			_, err := tenantOf(t, c).ReadItem(t.Context(), Secrets, "secret-name")
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "secret-name")
		})
	}
}

func TestEmptyListIsNoError(t *testing.T) {
	c, _ := scripted(t, reply{status: 404, body: `{"errors":[]}`})
	keys, err := c.Tenants(t.Context(), Page{})
	assert.NoError(t, err)
	assert.Empty(t, keys)

	c, _ = scripted(t, reply{status: 404, body: `{"errors":["tenant not found"]}`})
	_, err = tenantOf(t, c).Items(t.Context(), Secrets, Page{})
	assert.ErrorIs(t, err, ErrNotFound)
}

func TestAllWalksInParts(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{"keys":["a","b"]}}`}, reply{status: 200, body: `{"data":{"keys":["c"]}}`})
	var got []string
	for key, err := range All(t.Context(), 2, c.Tenants) {
		require.NoError(t, err)
		got = append(got, key)
	}
	assert.Equal(t, []string{"a", "b", "c"}, got)
	assert.Equal(t, "after=b&limit=2&list=true", s.seen[1].query)
}

// A path that would be cleaned into another one is never sent.
func TestNamesAreChecked(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{}}`})
	tenant := tenantOf(t, c)
	for _, name := range []string{"", "..", "a/../b", "a//b", "/a", "a/", "./a", "a b", "a?b", "a%2fb", "ä", strings.Repeat("a", 257)} {
		_, err := tenant.ReadItem(t.Context(), Secrets, name)
		assert.ErrorIs(t, err, ErrName, "%q", name)
	}
	_, err := tenant.ReadItem(t.Context(), "dek", "a")
	assert.ErrorIs(t, err, ErrName)
	_, err = tenant.Rotation(t.Context(), "rot-../../x")
	assert.ErrorIs(t, err, ErrRotationID)
	for _, id := range []string{"", "..", strings.ToUpper(tenantID), tenantID + "\n", tenantID + "/x"} {
		_, err := c.Tenant(id)
		assert.ErrorIs(t, err, ErrTenantID, "%q", id)
	}
	for _, mount := range []string{"", "..", "a//b", "a/.."} {
		_, err := New(c.vault, WithMount(mount))
		assert.Error(t, err, "%q", mount)
	}
	assert.Empty(t, s.seen)
}

// A renewed token and another namespace of the caller's client hold from the next
// call on.
func TestFollowsTheCallersClient(t *testing.T) {
	t.Setenv("VAULT_WRAP_TTL", "60s")
	c, s := scripted(t, reply{status: 200, body: `{"data":{}}`})
	_, err := c.KEK(t.Context())
	require.NoError(t, err)
	c.vault.SetToken("renewed")
	c.vault.SetNamespace("team")
	_, err = c.KEK(t.Context())
	require.NoError(t, err)
	c.vault.ClearNamespace()
	_, err = c.KEK(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "token", s.seen[0].token)
	assert.Equal(t, seen{method: "GET", path: "/v1/dek/kek", token: "renewed", namespace: "team"}, s.seen[1])
	assert.Empty(t, s.seen[2].namespace)
}

func TestItemKeepsNumbers(t *testing.T) {
	c, _ := scripted(t, reply{status: 200, body: `{"data":{"data":{"n":9007199254740993}}}`})
	item, err := tenantOf(t, c).ReadItem(t.Context(), Secrets, "a")
	require.NoError(t, err)
	assert.Equal(t, json.Number("9007199254740993"), item.Data["n"])
}
