// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTenantsInDetail(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{"keys":["a","b"],"key_info":{"b":{
		"display_name":"B","state":"active","current_version":3,"next_rotation_at":null,"overdue":true,"rotation_status":"failed"}}}}`})
	all, err := c.TenantsInDetail(t.Context(), Page{Limit: 2})
	require.NoError(t, err)
	assert.Equal(t, []TenantSummary{
		{ID: "a"},
		{ID: "b", DisplayName: "B", State: "active", CurrentVersion: 3, Overdue: true, RotationStatus: Failed},
	}, all)
	assert.Equal(t, "detailed=true&limit=2&list=true", s.seen[0].query)
}

func TestHistoryIsInOrder(t *testing.T) {
	c, _ := scripted(t, reply{status: 200, body: `{"data":{"keys":["rot-b","rot-a"],"key_info":{
		"rot-a":{"started_at":"2026-01-02T03:04:05Z","status":"completed","trigger":"manual","initiated_by":{"id":"x"}},
		"rot-b":{"started_at":"2026-02-02T03:04:05Z","status":"in_progress","trigger":"scheduled","initiated_by":{"id":"system"}}}}}`})
	all, err := tenantOf(t, c).History(t.Context(), Page{})
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "rot-b", all[0].ID)
	assert.Equal(t, InProgress, all[0].Status)
	assert.Equal(t, "x", all[1].InitiatedBy.ID)
}

func TestTombstones(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{"tombstones":[{"incarnation":"i","versions":2,"items":{"secrets":3},"deleted_by":{"id":"x"}}]}}`})
	all, err := tenantOf(t, c).Tombstones(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, 3, all[0].Items["secrets"])
	assert.Equal(t, "/v1/dek/tombstones/"+tenantID, s.seen[0].path)
}

// A list tells where items are missing, also if none could be read.
func TestReadableItemsTellsOfGaps(t *testing.T) {
	const gaps = `"unreadable":[{"place":"p","reason":"it does not open"}]}}`
	c, _ := scripted(t,
		reply{status: 200, body: `{"data":{"keys":["a"],` + gaps}, reply{status: 200, body: `{"data":{"keys":null,` + gaps},
		reply{status: 404, body: `{"errors":[]}`})
	for _, want := range [][]string{{"a"}, nil} {
		names, unreadable, err := tenantOf(t, c).ReadableItems(t.Context(), Secrets, Page{})
		require.NoError(t, err)
		assert.Equal(t, want, names)
		assert.Equal(t, []Unreadable{{"p", "it does not open"}}, unreadable)
	}
	names, unreadable, err := tenantOf(t, c).ReadableItems(t.Context(), Secrets, Page{})
	require.NoError(t, err)
	assert.Empty(t, names)
	assert.Empty(t, unreadable)
}

// Items for which an answer had no room are asked for again, and only those.
func TestReadItemsAsksAgainForWhatHadNoRoom(t *testing.T) {
	c, s := scripted(t,
		reply{status: 200, body: `{"data":{"results":[{"data":{"v":1},"revision":1},{"error":"no room"},{"error":"item not found"}],"left_out":[1]}}`},
		reply{status: 200, body: `{"data":{"results":[{"data":{"v":2},"revision":7}]}}`},
	)
	results, err := tenantOf(t, c).ReadItems(t.Context(), []ItemName{{Secrets, "a"}, {Secrets, "b"}, {Secrets, "c"}})
	require.NoError(t, err)
	require.Len(t, results, 3)
	assert.Equal(t, 1, results[0].Revision)
	assert.Equal(t, 7, results[1].Revision)
	assert.Equal(t, "item not found", results[2].Error)
	require.Len(t, s.seen, 2)
	assert.Equal(t, map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "b"}}}, s.seen[1].body)
}

// An engine that never has room is not asked for ever.
func TestReadItemsEnds(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{"results":[{"error":"no room"}],"left_out":[0]}}`})
	results, err := tenantOf(t, c).ReadItems(t.Context(), []ItemName{{Secrets, "a"}})
	require.NoError(t, err)
	assert.Equal(t, "no room", results[0].Error)
	assert.Len(t, s.seen, 1)
	_, err = tenantOf(t, c).ReadItems(t.Context(), []ItemName{{Secrets, "a"}, {Secrets, "b"}})
	require.Error(t, err, "two were asked for")
	c, _ = scripted(t, reply{status: 200, body: `{"data":{"results":[{"revision":1}],"left_out":[7]}}`})
	_, err = tenantOf(t, c).ReadItems(t.Context(), []ItemName{{Secrets, "a"}})
	require.Error(t, err, "there is no such place")
	results, err = tenantOf(t, c).ReadItems(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, results)
}

func TestFleet(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: `{"data":{"tenants":[{"tenant_id":"a","overdue":true}],"key_ages":[{"from_days":365,"to_days":null,"tenants":3}],
		"due_by_week":[{"from":null,"to":"2026-01-02T03:04:05Z","tenants":1}]}}`})
	f, err := c.Fleet(t.Context(), FleetQuery{Search: "a&b", State: "overdue", Page: Page{After: tenantID, Limit: 5}})
	require.NoError(t, err)
	assert.Equal(t, "after="+tenantID+"&limit=5&search=a%26b&state=overdue", s.seen[0].query)
	assert.Equal(t, []TenantSummary{{ID: "a", Overdue: true}}, f.Tenants)
	assert.Nil(t, f.KeyAges[0].ToDays)
	assert.Nil(t, f.DueByWeek[0].From)
	assert.Equal(t, 1, f.DueByWeek[0].Tenants)
}

func TestMetrics(t *testing.T) {
	c, s := scripted(t, reply{status: 200, body: "# TYPE dek_tenants gauge\ndek_tenants 1\n"})
	text, err := c.Metrics(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "# TYPE dek_tenants gauge\ndek_tenants 1\n", text)
	assert.Equal(t, "/v1/dek/metrics", s.seen[0].path)
	c, _ = scripted(t, reply{status: 403, body: `{"errors":["permission denied"]}`})
	_, err = c.Metrics(t.Context())
	require.ErrorIs(t, err, ErrForbidden)
}
