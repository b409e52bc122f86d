// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// documentedRotate is the success example of the first document.
const documentedRotate = `{
  "success": true,
  "message": "DEK rotation initiated successfully",
  "data": {
    "rotationId": "rot-550e8400-e29b-41d4-a716-446655440001",
    "tenantId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "status": "in_progress",
    "previousKeyId": "dek-old-key-12345",
    "newKeyId": "dek-new-key-67890",
    "startedAt": "2025-07-10T14:35:00.000Z",
    "estimatedCompletion": "2025-07-10T14:45:00.000Z",
    "itemsToRotate": {"credentials": 25, "apiKeys": 10, "secrets": 50},
    "initiatedBy": {"id": "1876278a-3634-4833-b73e-1536d806e117", "name": "A person", "email": "a.person@example.com"}
  },
  "timestamp": "2025-07-10T14:35:00.000Z"
}`

// requireShape compares keys and types, at every depth.
func requireShape(t testing.TB, where string, want, got any) {
	t.Helper()
	require.IsType(t, want, got, where)
	wanted, ok := want.(map[string]any)
	if !ok {
		return
	}
	have, _ := got.(map[string]any)
	keys := make([]string, 0, len(wanted))
	for key := range wanted {
		keys = append(keys, key)
	}
	requireKeys(t, have, keys...)
	for key := range wanted {
		requireShape(t, where+"."+key, wanted[key], have[key])
	}
}

func documented(t testing.TB, example string) map[string]any {
	t.Helper()
	var out map[string]any
	require.NoError(t, json.Unmarshal([]byte(example), &out))
	return out
}
