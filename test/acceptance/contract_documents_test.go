// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documentedRotation is the response of the document on rotating a DEK.
const documentedRotation = `{
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
    "itemsToRotate": {
      "credentials": 25,
      "apiKeys": 10,
      "secrets": 50
    },
    "initiatedBy": {
      "id": "1876278a-3634-4833-b73e-1536d806e117",
      "name": "Deepak purohit",
      "email": "deepak.purohit@rezolve.ai"
    }
  },
  "timestamp": "2025-07-10T14:35:00.000Z"
}`

// documentedSettings is the response of the document on key rotation.
const documentedSettings = `{
"orgId": "52ZSTB0IDK6dXxaEQLUaQu",
"validRotationIntervals": [
"90_DAYS",
"120_DAYS",
"180_DAYS",
"365_DAYS"
],
"rotationInterval": "365_DAYS"
}`

// documentedForms are the forms of text in the examples that a client may rely on.
var documentedForms = []*regexp.Regexp{
	regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`), rotationIDForm, uuidForm,
	regexp.MustCompile(`^dek-`), regexp.MustCompile(`^\d+_DAYS$`), regexp.MustCompile(`^[^@ ]+@[^@ ]+$`),
}

// sameShape requires what an example has: the same fields, with the same types
// and forms, and none besides.
func sameShape(t *testing.T, where string, example, got any) {
	t.Helper()
	require.IsType(t, example, got, where)
	switch want := example.(type) {
	case map[string]any:
		object := got.(map[string]any)
		for name := range want {
			require.Contains(t, object, name, where)
			sameShape(t, where+"."+name, want[name], object[name])
		}
		require.Len(t, object, len(want), "%s has %v", where, object)
	case []any:
		for _, element := range got.([]any) {
			sameShape(t, where+"[]", want[0], element)
		}
	case string:
		for _, form := range documentedForms {
			if form.MatchString(want) {
				assert.Regexp(t, form, got, where)
				return
			}
		}
	}
}
