// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// Vault decodes the document of an external plugin, which has come as JSON. Every
// request and every answer has its schema afterwards.
func TestReferencesSurviveTheWayToVault(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	resp, err := m.Call(logical.HelpOperation, "", nil)
	require.NoError(t, err)
	encoded, err := json.Marshal(resp.Data["openapi"])
	require.NoError(t, err)
	var arrived map[string]any
	require.NoError(t, json.Unmarshal(encoded, &arrived))
	doc, err := framework.NewOASDocumentFromMap(arrived)
	require.NoError(t, err)

	schemas := 0
	refers := func(content framework.OASContent, what string) {
		t.Helper()
		for kind, media := range content {
			require.NotEmpty(t, media.Schema.Ref, "%s, %s", what, kind)
			name, _ := strings.CutPrefix(media.Schema.Ref, "#/components/schemas/")
			require.NotNil(t, doc.Components.Schemas[name], "%s: %s", what, media.Schema.Ref)
			schemas++
		}
	}
	for path, item := range doc.Paths {
		for _, op := range []*framework.OASOperation{item.Get, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if op.RequestBody != nil {
				refers(op.RequestBody.Content, path+" request")
			}
			for _, answer := range op.Responses {
				refers(answer.Content, path+" answer")
			}
		}
	}
	require.Greater(t, schemas, 50)

	for _, name := range []string{"retired_key_retention", "scheduler_jitter", "min_deletion_window", "data_key_lease", "kek_rotation_interval"} {
		answer := doc.Components.Schemas["DekReadConfigurationResponse"]
		require.NotNil(t, answer)
		require.Equal(t, "integer", answer.Properties[name].Type, "durations are seconds in answers: %s", name)
	}
}
